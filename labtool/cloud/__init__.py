"""EC2 by boto3: launch, find, wait, terminate, expire, price. The same calls for AWS and the local cloud."""
