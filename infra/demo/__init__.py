"""The demo: a person's way through the product, by HTTP and files in the kit. Imports no service of ours."""
