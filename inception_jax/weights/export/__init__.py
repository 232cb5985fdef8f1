"""Writes networks with their weights for other programs: ONNX, StableHLO, safetensors and the peers' own files."""
