"""Tables and plots as text, HTML, CSV, Parquet and plot files."""
