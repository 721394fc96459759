//! Who holds a token, as the API server's review says, and why somebody may not ask. Pure.

use k8s_openapi::api::authentication::v1::TokenReviewStatus;

/// In `user.extra` of a review, from Kubernetes 1.30 on.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// The agent that a token was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// `namespace/name` of its service account.
    pub(crate) account: String,
    /// Its pod.
    pub(crate) pod: String,
    /// The pod's uid.
    pub(crate) pod_uid: String,
    /// The node that the token says; absent before Kubernetes 1.30.
    pub(crate) node: Option<String>,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stranger {
    /// Expired, revoked, of another audience, or of another cluster.
    #[error(
        "the token was refused by the API server: {0}; expected a projected service account token of audience `{1}`"
    )]
    Token(String, String),
    /// The holder is somebody else.
    #[error("{0} may not ask for certificates; only {1} may (--agent-account)")]
    Account(String, String),
    /// A token that was not made for a pod says no node.
    #[error("the token of {0} is not bound to a pod: it says no {1}; mount it as a projected volume")]
    Unbound(String, &'static str),
}

/// Reads the answer of a review that asked for `audience`; only `accounts` (`namespace/name`) may ask.
pub(crate) fn read(
    status: &TokenReviewStatus,
    audience: &str,
    accounts: &[String],
) -> Result<Caller, Stranger> {
    let refused = |reason: &str| Stranger::Token(reason.to_owned(), audience.to_owned());
    if status.authenticated != Some(true) {
        return Err(refused(status.error.as_deref().unwrap_or("not authenticated")));
    }
    // A server that knows no audiences would answer for any token.
    if !status.audiences.iter().flatten().any(|known| known == audience) {
        return Err(refused("it is of another audience"));
    }
    let user = status.user.clone().unwrap_or_default();
    let name = user.username.unwrap_or_default();
    let account = name.strip_prefix("system:serviceaccount:").map(|name| name.replacen(':', "/", 1));
    let Some(account) = account.filter(|account| accounts.contains(account)) else {
        return Err(Stranger::Account(name, accounts.join(" or ")));
    };
    let extra = user.extra.unwrap_or_default();
    let find = |key: &str| extra.get(key).and_then(|values| values.first()).cloned();
    let need = |key: &'static str| find(key).ok_or_else(|| Stranger::Unbound(account.clone(), key));
    let (pod, pod_uid) = (need(POD_NAME)?, need(POD_UID)?);
    Ok(Caller { node: find(NODE_NAME), pod, pod_uid, account })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;

    fn review(user: &str, extra: &[(&str, &str)]) -> TokenReviewStatus {
        let extra = extra.iter().map(|(key, value)| ((*key).to_owned(), vec![(*value).to_owned()]));
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(vec!["posthaste-ca".to_owned()]),
            user: Some(UserInfo {
                username: Some(user.to_owned()),
                extra: Some(extra.collect()),
                ..UserInfo::default()
            }),
            error: None,
        }
    }

    #[test]
    fn lets_in_agents_and_says_why_not() {
        let agent = "system:serviceaccount:mesh:agent";
        let bound = [(NODE_NAME, "n1"), (POD_NAME, "agent-x"), (POD_UID, "u1")];
        let accounts = ["mesh/agent".to_owned()];
        let read = |status: &TokenReviewStatus| super::read(status, "posthaste-ca", &accounts);
        let caller = read(&review(agent, &bound)).unwrap();
        assert_eq!((caller.node.as_deref(), &*caller.pod, &*caller.pod_uid), (Some("n1"), "agent-x", "u1"));
        assert_eq!(read(&review(agent, bound.get(1..).unwrap())).unwrap().node, None, "an older server");
        assert!(matches!(read(&review(agent, bound.get(..1).unwrap())), Err(Stranger::Unbound(_, POD_NAME))));
        for other in ["system:serviceaccount:shop:agent", "system:serviceaccount:mesh:agent:x", "mesh/agent"]
        {
            assert!(matches!(read(&review(other, &bound)), Err(Stranger::Account(..))), "{other}");
        }
        let expired = TokenReviewStatus {
            authenticated: None,
            error: Some("token has expired".to_owned()),
            ..review(agent, &bound)
        };
        assert!(read(&expired).unwrap_err().to_string().contains("expired"));
        let deaf = TokenReviewStatus { audiences: None, ..review(agent, &bound) };
        assert!(matches!(read(&deaf), Err(Stranger::Token(..))), "a server that knows no audiences");
    }
}
