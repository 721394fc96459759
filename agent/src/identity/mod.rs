//! SPIFFE certificates of the pods of this node: store, renewal, CA client.
