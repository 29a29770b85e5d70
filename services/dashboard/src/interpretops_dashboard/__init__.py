"""The dashboard: serves its pages, keeps who is signed in, and passes their requests to the edge."""
