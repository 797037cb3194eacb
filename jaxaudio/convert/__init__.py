"""Published torch and safetensors checkpoints to parameter trees."""
