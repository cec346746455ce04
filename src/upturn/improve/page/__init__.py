"""Pages: self-contained HTML with plots, for reports that people keep and send."""
