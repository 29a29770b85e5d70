"""Objects: named by their content, checked whenever they are read, sealed per tenant."""
