"""Writes networks with their weights for other programs: ONNX, StableHLO, safetensors and the peers' own files."""

PUBLISHERS = ("torchvision", "timm", "keras")  # whose own files can be written
FORMATS = ("npz", "safetensors", "onnx", "stablehlo", *PUBLISHERS)
