"""What runs over many texts: one folder a job."""
