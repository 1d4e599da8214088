"""Better grouping settings for a trained network, found on validation images.

The network runs once; then settings are tried on its outputs, one at a time (coordinate search): every value on the
ladder of one setting, then of the next, until a whole round changes nothing.
"""
