"""The configuration file that comes with gocloudtrail."""

GOCLOUDTRAIL = """
{
  // workers; 0 = one per CPU
  "download_workers": 50,
  "process_workers": 0,
  "download_queue_size": 5000,
  "process_queue_size": 2000,
  "list_batch_size": 1000, // keys per request
  "events_per_file": 10000,
  "state_db": "state.db",
  "bloom_file": "bloom.gob",
  "events_dir": "events",
  "bloom_expected_items": 100000000,
  "bloom_false_positive": 0.001,
  "state_save_interval": 300,
  "progress_interval": 10,
  "jsonl_flush_interval": 30,
  "max_idle_conns": 500,
  "max_idle_conns_per_host": 500,
  "max_conns_per_host": 500,
  "idle_conn_timeout": 90,
  "dial_timeout": 10,
  "keep_alive": 30,
  "client_timeout": 60,
  "trails": [
    {"name": "main", "bucket": "my-bucket", "prefix": "logs"}
  ]
}
"""
