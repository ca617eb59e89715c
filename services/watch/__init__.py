"""The reference client of the camera service: pictures from cameras and files in, events out."""
