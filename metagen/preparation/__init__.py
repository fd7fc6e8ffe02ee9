"""Photographs and scans made into tasks: ink freed from paper, sheets cut apart, faces found, bad pictures left out."""
