"""keepline: the customer warehouse that a telecom operator runs every night."""
