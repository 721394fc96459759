//! The certificate authority: the Istio CA gRPC API.
