"""What a newcomer needs and no cloud: S3 and SQS in the process, and a model that replays."""
