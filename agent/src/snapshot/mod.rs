//! What the node knows at one instant: an immutable [`Snapshot`], built by a pure function from
//! [`input::Inputs`], loaded once per connection by the data path. Pure: no I/O, no clock, no logging.

pub mod authorization;
pub mod build;
pub mod captured;
pub mod elsewhere;
pub mod input;
pub mod load;
pub mod lookup;
pub mod model;
pub mod policy;
pub mod problem;
pub mod protocol;
pub mod routes;
pub mod spiffe;

pub use authorization::Authorization;
pub use elsewhere::{Elsewhere, PodKey};
pub use load::{EndpointLoad, PodLoad, ServiceState, Shared};
pub use lookup::{Peer, Route};
pub use model::{
    Endpoint, FailMode, LocalPod, MtlsMode, NetnsSource, Service, ServicePort, Snapshot, Workload,
};
pub use policy::TrafficPolicy;
pub use problem::Problem;
pub use protocol::Protocol;
pub use routes::ServiceRoutes;
pub use spiffe::SpiffeId;

/// By what the cluster names. The seed is drawn by chance, so that nobody can choose names that collide.
pub type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
