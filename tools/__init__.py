"""What `./dev` runs: one module per verb; modules with an underscore are shared by them."""
