"""Selection: which samples the dataset is made of, decided over columns only, by a list of rules in a fixed order."""
