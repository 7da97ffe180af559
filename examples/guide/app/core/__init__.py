"""The settings and the gateway that is made of them."""
