"""Reports on ablation sweeps: data of their runs, statistics, Markdown, and a page with curves."""
