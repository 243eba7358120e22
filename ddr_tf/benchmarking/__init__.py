"""How fast this machine trains and runs the model: the measurements, and their report."""
