"""The report on an ablation sweep, and the document over all of them."""
