//! Requests to an API server from inside its world, one after the other or many at once: a thread in the site's network
//! namespace runs them, so that tests stay ordinary functions.

use crate::{Doing, Fault, Site};
use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use std::{os::fd::OwnedFd, path::Path, sync::Arc, thread};
use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot},
    task::JoinSet,
};

/// Requests under way at most.
const AT_ONCE: usize = 32;

/// A status and a JSON value (text where it is not JSON).
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body.
    pub body: Value,
}

impl Answer {
    /// The body of an answer below 300.
    ///
    /// # Errors
    /// What the server said, else.
    pub fn success(self) -> Result<Value, Fault> {
        match self.status {
            200..=299 => Ok(self.body),
            status => Err(Fault::new(format!("the API server answered {status}: {}", self.body))),
        }
    }
}

/// One request to send.
type Call = (Request<Vec<u8>>, oneshot::Sender<Result<Answer, Fault>>);

/// A client; its thread ends with it.
#[derive(Debug)]
pub struct Client {
    calls: mpsc::UnboundedSender<Call>,
}

impl Client {
    /// Starts a client that uses this kubeconfig from the network namespace of `site`.
    ///
    /// # Errors
    /// The kubeconfig cannot be used.
    pub fn start(site: &Site, kubeconfig: &Path) -> Result<Self, Fault> {
        let text = std::fs::read_to_string(kubeconfig).doing(format!("read {}", kubeconfig.display()))?;
        let kubeconfig = Kubeconfig::from_yaml(&text).map_err(fault)?;
        let namespace = site.namespace().fd().try_clone_to_owned().doing("copy a descriptor")?;
        let (calls, receiver) = mpsc::unbounded_channel();
        thread::spawn(move || serve(&namespace, kubeconfig, receiver));
        Ok(Self { calls })
    }

    /// Server-side apply, by force.
    ///
    /// # Errors
    /// No answer.
    pub fn apply(&self, path: &str, object: &Value) -> Result<Answer, Fault> {
        let path = format!("{path}?fieldManager=tests&force=true");
        self.send(Method::PATCH, &path, Some(("application/apply-patch+yaml", object)))
    }

    /// Merge patch (RFC 7396).
    ///
    /// # Errors
    /// No answer.
    pub fn merge(&self, path: &str, patch: &Value) -> Result<Answer, Fault> {
        self.send(Method::PATCH, path, Some(("application/merge-patch+json", patch)))
    }

    /// POST.
    ///
    /// # Errors
    /// No answer.
    pub fn create(&self, path: &str, object: &Value) -> Result<Answer, Fault> {
        self.send(Method::POST, path, Some(("application/json", object)))
    }

    /// GET.
    ///
    /// # Errors
    /// No answer.
    pub fn read(&self, path: &str) -> Result<Answer, Fault> {
        self.send(Method::GET, path, None)
    }

    /// DELETE.
    ///
    /// # Errors
    /// No answer.
    pub fn delete(&self, path: &str) -> Result<Answer, Fault> {
        self.send(Method::DELETE, path, None)
    }

    /// Many requests at once, each a method, a path and a JSON body; ends at the first that fails.
    ///
    /// # Errors
    /// The first answer above 299.
    pub fn all(&self, requests: impl IntoIterator<Item = (Method, String, Value)>) -> Result<usize, Fault> {
        let mut waiting = Vec::new();
        for (method, path, body) in requests {
            let kind =
                if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
            waiting.push(self.queue(method, &path, Some((kind, &body)))?);
        }
        let count = waiting.len();
        for answer in waiting {
            received(answer)?.success()?;
        }
        Ok(count)
    }

    fn send(&self, method: Method, path: &str, body: Option<(&str, &Value)>) -> Result<Answer, Fault> {
        received(self.queue(method, path, body)?)
    }

    fn queue(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<oneshot::Receiver<Result<Answer, Fault>>, Fault> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some((kind, _)) = body {
            request = request.header("content-type", kind);
        }
        let bytes = body.map(|(_, body)| body.to_string().into_bytes()).unwrap_or_default();
        let request = request.body(bytes).map_err(fault)?;
        let (sender, receiver) = oneshot::channel();
        self.calls.send((request, sender)).map_err(|_| ended())?;
        Ok(receiver)
    }
}

fn received(answer: oneshot::Receiver<Result<Answer, Fault>>) -> Result<Answer, Fault> {
    answer.blocking_recv().map_err(|_| ended())?
}

fn serve(namespace: &OwnedFd, kubeconfig: Kubeconfig, mut calls: mpsc::UnboundedReceiver<Call>) {
    let entered =
        move_into_link_name_space(std::os::fd::AsFd::as_fd(namespace), Some(LinkNameSpaceType::Network));
    let Ok(runtime) = Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        let client = match entered {
            Ok(()) => connect(kubeconfig).await,
            Err(error) => Err(fault(error)),
        };
        let client = client.map_err(|fault| fault.to_string()).map(Arc::new);
        let mut under_way = JoinSet::new();
        while let Some((request, sender)) = calls.recv().await {
            if under_way.len() >= AT_ONCE {
                under_way.join_next().await;
            }
            match &client {
                Ok(client) => drop(under_way.spawn(answer(Arc::clone(client), request, sender))),
                Err(reason) => drop(sender.send(Err(Fault::new(reason.clone())))),
            }
        }
        while under_way.join_next().await.is_some() {}
    });
}

async fn connect(kubeconfig: Kubeconfig) -> Result<kube::Client, Fault> {
    let options = KubeConfigOptions::default();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(fault)?;
    // A proxy of this machine is none for the world.
    config.proxy_url = None;
    kube::Client::try_from(config).map_err(fault)
}

async fn answer(
    client: Arc<kube::Client>,
    request: Request<Vec<u8>>,
    sender: oneshot::Sender<Result<Answer, Fault>>,
) {
    let what = format!("{} {}", request.method(), request.uri());
    let answer = match client.send(request.map(kube::client::Body::from)).await {
        Ok(response) => {
            let status = response.status().as_u16();
            let bytes = response.into_body().collect_bytes().await.map_err(fault);
            bytes.map(|bytes| Answer { status, body: body(&bytes) })
        }
        Err(error) => Err(Fault::new(format!("{what}: {error}"))),
    };
    let _ = sender.send(answer);
}

fn body(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into())
}

fn ended() -> Fault {
    Fault::new("the client of the API server has ended")
}

fn fault(error: impl std::fmt::Display) -> Fault {
    Fault::new(error.to_string())
}
