"""A trained model for others: signatures, exported models, and the server and client that speak of them."""
