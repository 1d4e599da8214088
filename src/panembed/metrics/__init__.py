"""How good is a prediction: Panoptic Quality, and the measures of leaf segmentation."""
