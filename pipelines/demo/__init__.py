"""The demo: real media, planted defects, a loopback server and a similarity encoder, all without a network."""
