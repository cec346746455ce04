"""Pages: findings as one self-contained HTML document, with plots in SVG."""
