"""What a trained model is asked: its evaluation on held-out questions, and a conversation."""
