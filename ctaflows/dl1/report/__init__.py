"""Reports on nights and files: as data, Markdown, HTML and plots."""
