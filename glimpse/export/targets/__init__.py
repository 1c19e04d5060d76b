"""Where an exported file is deployed: Triton's repository, KServe's manifest."""
