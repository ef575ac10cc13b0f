"""The Open Inference Protocol, version 2, over REST: KServe's, Triton's, OVMS' and MLServer's."""
