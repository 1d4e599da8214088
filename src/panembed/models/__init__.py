"""Networks: any semantic-segmentation network with a class head and an embedding head."""
