//! Asks the agents, as often as the page wants news and no oftener, however many pages are open: one thread for each agent, one
//! question at a time, so that a slow agent is never asked twice at once. Nobody looks, nobody is asked.

use super::{
    sample::{Sample, Watched},
    state::{self, State},
};
use crate::{
    cli::{
        client::{self, ClientError},
        cluster::place::Place,
        graph,
    },
    observe::locked,
};
use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Between two samples of an agent.
const PACE: Duration = Duration::from_secs(2);
/// An agent that is slow to answer is asked for a third of the time at most.
const RESTRAINT: u32 = 2;
/// After so long without a question from a page no agent is asked.
const IDLE: Duration = Duration::from_secs(15);
/// Connections of each agent, the newest: what a table can show.
const CONNECTIONS: usize = 500;

struct Agent {
    place: Place,
    watched: Mutex<Watched>,
}

/// What the agents said last.
pub(super) struct Sampler {
    agents: Vec<Agent>,
    /// When a page asked for the last time.
    looked: Mutex<Instant>,
    looks: Condvar,
}

impl Sampler {
    pub(super) fn of(places: Vec<Place>) -> Self {
        let agent = |place| Agent { place, watched: Mutex::default() };
        Self {
            agents: places.into_iter().map(agent).collect(),
            looked: Mutex::new(Instant::now()),
            looks: Condvar::new(),
        }
    }

    /// Asks each agent once; what those that failed said.
    ///
    /// # Errors
    /// None answered: what the first one said.
    pub(super) fn try_all(&self) -> Result<Vec<ClientError>, ClientError> {
        let failures = thread::scope(|scope| {
            let asking: Vec<_> =
                self.agents.iter().map(|agent| scope.spawn(|| agent.sample().err())).collect();
            asking.into_iter().filter_map(|one| one.join().ok().flatten()).collect::<Vec<_>>()
        });
        if failures.len() < self.agents.len() {
            return Ok(failures);
        }
        failures.into_iter().next().map_or_else(|| Ok(Vec::new()), Err)
    }

    /// Goes on asking, after [`Sampler::try_all`], until the process ends.
    ///
    /// # Errors
    /// No threads.
    pub(super) fn start(self: &Arc<Self>) -> io::Result<()> {
        for number in 0..self.agents.len() {
            let sampler = self.clone();
            thread::Builder::new().name(format!("sampler-{number}")).spawn(move || {
                if let Some(agent) = sampler.agents.get(number) {
                    sampler.follow(agent);
                }
            })?;
        }
        Ok(())
    }

    /// What the agents said last, for a page that looks now.
    pub(super) fn state(&self) -> State {
        *locked(&self.looked) = Instant::now();
        self.looks.notify_all();
        let watched: Vec<_> =
            self.agents.iter().map(|agent| (agent.place.to_string(), locked(&agent.watched))).collect();
        let all: Vec<(&str, &Watched)> = watched.iter().map(|(place, one)| (&**place, &**one)).collect();
        state::state(&all, Instant::now())
    }

    fn follow(&self, agent: &Agent) {
        let mut pause = PACE;
        loop {
            thread::sleep(pause);
            let looked = locked(&self.looked);
            let nobody = |looked: &mut Instant| looked.elapsed() > IDLE;
            drop(self.looks.wait_while(looked, nobody).unwrap_or_else(PoisonError::into_inner));
            let begin = Instant::now();
            // What went wrong is for the page to say.
            let _ = agent.sample();
            pause = PACE.max(begin.elapsed() * RESTRAINT);
        }
    }
}

impl Agent {
    fn sample(&self) -> Result<(), ClientError> {
        let asked = ask(&self.place);
        let mut watched = locked(&self.watched);
        match asked {
            Ok(sample) => {
                watched.take(Instant::now(), sample);
                Ok(())
            }
            Err(error) => {
                watched.fail(error.to_string());
                Err(error)
            }
        }
    }
}

fn ask(place: &Place) -> Result<Sample, ClientError> {
    let connections = format!("/connections?closed=false&all=true&limit={CONNECTIONS}");
    Ok(Sample {
        status: client::ask(place, "/status")?,
        graph: graph::read(&String::from_utf8_lossy(&client::fetch(place, "/metrics")?)),
        top: client::ask(place, "/top")?,
        services: client::ask(place, "/services")?,
        connections: client::ask(place, &connections)?,
        coverage: client::ask(place, "/coverage")?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn an_agent_that_is_not_there_is_named() {
        let place = Place { admin_socket: "/nonexistent/admin.sock".into(), ..Place::default() };
        let sampler = Sampler::of(vec![place]);
        let error = sampler.try_all().unwrap_err().to_string();
        assert!(error.contains("no agent at /nonexistent/admin.sock"), "{error}");
        let state = serde_json::to_value(sampler.state()).unwrap();
        assert_eq!(state["agents"][0]["place"], "/nonexistent/admin.sock");
        assert!(state["agents"][0]["error"].as_str().unwrap().contains("no agent at"), "{state}");
        assert!(state["agents"][0]["age_ms"].is_null() && state["edges"] == serde_json::json!([]), "{state}");
    }
}
