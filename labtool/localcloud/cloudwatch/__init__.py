"""CloudWatch's metrics: an indexed store on disk, and the API in the three protocols that clients speak."""
