"""The output in a bucket: objects staged beside their final names, then copied to them."""
