"""Reading a bucket, in S3 or in a local folder: clients, endpoints, credentials, retries."""
