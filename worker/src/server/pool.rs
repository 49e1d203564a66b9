//! Which server is asked next and when: one that was busy or away later, by a pause with full jitter, and never before it said itself.
//! When all of them are away or busy for too long, it is nobody's fault that can be charged.

use std::time::Duration;

use common::backoff::Backoff;
use rand::RngExt as _;
use tokio::time::Instant;

use super::Endpoint;

/// The pauses after a server was busy or away.
const PAUSES: Backoff = Backoff { first: Duration::from_millis(500), longest: Duration::from_secs(10) };
/// How often servers may give answers that are none, before it is said that they do.
const NONSENSE_MAX: u32 = 3;
/// How long servers may all be away at most.
const AWAY_MAX: Duration = Duration::from_mins(1);
/// How long servers may be busy or away at most.
const BUSY_MAX: Duration = Duration::from_mins(10);

/// Why a server gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// It has too much to do.
    #[error("busy: {said}")]
    Busy {
        /// When to ask again at the earliest, from now.
        after: Option<Duration>,
        /// Its words.
        said: String,
    },
    /// It can't be reached, broke off, or is another one than it should be.
    #[error("{0}")]
    Away(String),
    /// It is there, and is not well or not the server that it should be.
    #[error("{0}")]
    Unwell(String),
    /// It answered something that is no answer.
    #[error("{0}")]
    Nonsense(String),
}

/// Why no server gave an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GaveUp {
    /// They are away or busy: not the fault of what was asked.
    #[error("no server could be asked for {seconds} s, the last one said: {last}")]
    Away {
        /// For how long it was tried.
        seconds: u64,
        /// The last trouble.
        last: String,
    },
    /// They answer something that is no answer.
    #[error("{NONSENSE_MAX} answers that are none, the last one: {last}")]
    Nonsense {
        /// The last trouble.
        last: String,
    },
}

/// Asks servers of one kind whether they are well.
pub(crate) trait Health {
    /// Whether this one is.
    async fn check(&self, endpoint: &Endpoint) -> Result<(), Trouble>;
}

/// How long to wait for servers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    away: Duration,
    busy: Duration,
}

impl Patience {
    /// As much as fits into a step: waiting must not use up the time that a molecule has.
    pub(crate) fn within(step: Duration) -> Self {
        Self { away: AWAY_MAX.min(step / 4), busy: BUSY_MAX.min(step / 4) }
    }
}

#[derive(Debug)]
struct Member {
    endpoint: Endpoint,
    /// Whether it was well when it was last heard of.
    is_well: bool,
    tries: u32,
    not_before: Instant,
}

/// The servers that can be asked.
#[derive(Debug)]
pub(crate) struct Pool {
    members: Vec<Member>,
    patience: Patience,
}

impl Pool {
    /// Of these servers, none of which is known to be well. Each pool begins with another one, so that many share the load.
    pub(crate) fn new(mut endpoints: Vec<Endpoint>, patience: Patience) -> Self {
        if !endpoints.is_empty() {
            let first = rand::rng().random_range(0..endpoints.len());
            endpoints.rotate_left(first);
        }
        let now = Instant::now();
        let member = |endpoint| Member { endpoint, is_well: false, tries: 0, not_before: now };
        Self { members: endpoints.into_iter().map(member).collect(), patience }
    }

    /// Asks one server after the other until one answers.
    pub(crate) async fn ask<T>(
        &mut self,
        health: &impl Health,
        request: impl AsyncFn(&Endpoint) -> Result<T, Trouble>,
    ) -> Result<T, GaveUp> {
        let began = Instant::now();
        let mut away_since = None;
        let (mut nonsense, mut last) = (0, "there is none".to_owned());
        loop {
            let next = self.members.iter_mut().min_by_key(|member| member.not_before);
            let gave_up =
                |since: Instant, last: String| Err(GaveUp::Away { seconds: since.elapsed().as_secs(), last });
            let Some(member) = next else { return gave_up(began, last) };
            if member.not_before > began + self.patience.busy
                || away_since.is_some_and(|since| member.not_before > since + self.patience.away)
            {
                return gave_up(began, last);
            }
            tokio::time::sleep_until(member.not_before).await;
            let trouble = match member.ask(health, &request).await {
                Ok(answer) => return Ok(answer),
                Err(trouble) => trouble,
            };
            tracing::warn!(server = %member.endpoint, "{trouble}");
            last = format!("{}: {trouble}", member.endpoint);
            match trouble {
                Trouble::Busy { .. } => away_since = None,
                Trouble::Away(_) | Trouble::Unwell(_) => _ = away_since.get_or_insert_with(Instant::now),
                Trouble::Nonsense(_) => {
                    nonsense += 1;
                    if nonsense == NONSENSE_MAX {
                        return Err(GaveUp::Nonsense { last });
                    }
                }
            }
        }
    }
}

impl Member {
    async fn ask<T>(
        &mut self,
        health: &impl Health,
        request: impl AsyncFn(&Endpoint) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let asked = async {
            if !self.is_well {
                health.check(&self.endpoint).await?;
            }
            request(&self.endpoint).await
        };
        let asked = asked.await;
        self.is_well = asked.is_ok();
        match &asked {
            Ok(_) => self.tries = 0,
            Err(trouble) => {
                self.tries += 1;
                let after = match trouble {
                    Trouble::Busy { after, .. } => after.unwrap_or_default(),
                    Trouble::Away(_) | Trouble::Unwell(_) | Trouble::Nonsense(_) => Duration::ZERO,
                };
                self.not_before = Instant::now() + after + PAUSES.pause(self.tries, &mut rand::rng());
            }
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Well;

    impl Health for Well {
        async fn check(&self, _: &Endpoint) -> Result<(), Trouble> {
            Ok(())
        }
    }

    fn pool(servers: usize) -> Pool {
        let endpoints = (1..=servers).map(|port| format!("http://host:{port}").parse().unwrap());
        Pool::new(endpoints.collect(), Patience::within(Duration::from_hours(1)))
    }

    fn busy(seconds: Option<u64>) -> Trouble {
        Trouble::Busy { after: seconds.map(Duration::from_secs), said: "503".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_server_is_asked_again_when_it_said_and_no_other_waits_for_it() {
        let asked = Mutex::new(Vec::new());
        let began = Instant::now();
        let answer = pool(2)
            .ask(&Well, async |endpoint| {
                let mut asked = asked.lock().unwrap();
                asked.push((endpoint.to_string(), began.elapsed()));
                if asked.len() < 3 { Err(busy(Some(20))) } else { Ok(asked.len()) }
            })
            .await;
        assert_eq!(answer, Ok(3));
        let asked = asked.into_inner().unwrap();
        assert_ne!(asked[0].0, asked[1].0);
        assert!(asked[1].1 < Duration::from_secs(1), "{asked:?}");
        assert!(asked[2].1 > Duration::from_secs(20) && asked[2].1 < Duration::from_secs(22), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn servers_that_are_away_are_given_up_sooner_than_busy_ones() {
        let until = async |trouble: fn() -> Trouble| {
            let began = Instant::now();
            let gave_up = pool(1).ask(&Well, async |_| Err::<(), _>(trouble())).await.unwrap_err();
            assert!(matches!(gave_up, GaveUp::Away { .. }), "{gave_up}");
            began.elapsed()
        };
        let away = until(|| Trouble::Away("refused".into())).await;
        assert!(away > Duration::from_secs(40) && away <= Duration::from_mins(1), "{away:?}");
        let busy = until(|| busy(None)).await;
        assert!(busy > Duration::from_mins(9) && busy <= Duration::from_mins(10), "{busy:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_is_checked_before_it_is_used_and_after_it_was_away() {
        struct Counting(Mutex<u32>);
        impl Health for Counting {
            async fn check(&self, _: &Endpoint) -> Result<(), Trouble> {
                *self.0.lock().unwrap() += 1;
                Ok(())
            }
        }
        let health = Counting(Mutex::new(0));
        let mut pool = pool(1);
        for _ in 0..3 {
            pool.ask(&health, async |_| Ok(())).await.unwrap();
        }
        assert_eq!(*health.0.lock().unwrap(), 1);
        let away = Mutex::new(true);
        let once = async |_: &Endpoint| {
            if std::mem::take(&mut *away.lock().unwrap()) {
                Err(Trouble::Away(String::new()))
            } else {
                Ok(())
            }
        };
        pool.ask(&health, once).await.unwrap();
        assert_eq!(*health.0.lock().unwrap(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_are_none_end_soon_and_no_server_at_all_at_once() {
        let nonsense = async |_: &Endpoint| Err::<(), _>(Trouble::Nonsense("HTML".into()));
        let gave_up = pool(2).ask(&Well, nonsense).await.unwrap_err();
        assert!(gave_up.to_string().starts_with("3 answers that are none"), "{gave_up}");
        let gave_up = pool(0).ask(&Well, nonsense).await.unwrap_err();
        assert_eq!(gave_up.to_string(), "no server could be asked for 0 s, the last one said: there is none");
    }
}
