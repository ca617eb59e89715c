"""The five methods: network, losses, training, export; and the released weights."""
