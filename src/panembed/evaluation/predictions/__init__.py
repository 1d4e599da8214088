"""Predictions that lie in files, written by `panembed predict` or by any other tool, for scoring against truth.

Three ways of storing them are read:

- `coco-panoptic`: a JSON and a folder of PNGs, as the COCO panoptic task has them. `predict` writes `panoptic.json` and
  `panoptic/NAME.png`; other tools may have string ids, no list of images, or no list of categories.
- `instances`: label images `NAME.png` (or tif, bmp), or `NAME_instances.png`: 0, and a number for every object. The
  class of an object comes from `NAME_semantic.png`, which holds class ids; with one thing class it may be missing.
- `class-instance`: label images `NAME.png` of class * 1000 + number (Zachow 2022, Eq. 2.1), and the class id alone for
  stuff.
"""
