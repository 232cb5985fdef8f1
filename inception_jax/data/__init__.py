"""Images: sources, decoding, crops on the host, augmentation on the device, the loader."""
