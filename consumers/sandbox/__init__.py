"""The sandbox: where untrusted bytes are parsed and model-written code runs."""
