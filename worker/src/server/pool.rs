//! Which server is asked next and when: one that was busy or away later, by a pause with full jitter, and never before it said itself.
//! When all of them are away or busy for too long, it is nobody's fault that can be charged. When they crash over it again and again, and
//! are well before each time, it is said so.

use std::time::Duration;

use common::backoff::Backoff;
use rand::RngExt as _;
use tokio::time::Instant;

use super::Endpoint;

/// The pauses after a server was busy or away.
const PAUSES: Backoff = Backoff { first: Duration::from_millis(500), longest: Duration::from_secs(10) };
/// How often servers may give answers that are none, before it is said that they do.
const NONSENSE_MAX: u32 = 3;
/// How often servers that were well may break off over one molecule, before it is said that they do.
pub(crate) const CRASHES_MAX: u32 = 3;
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
    /// It can't be reached.
    #[error("{0}")]
    Away(String),
    /// It was well, took what was asked, and broke off or stands still since.
    #[error("{0}")]
    Crashed(String),
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
    /// One crashed over what was asked, and none has been there since: it may be what was asked.
    #[error(
        "a server crashed over it, and none could be asked for {seconds} s since, the last one said: {last}"
    )]
    Lost {
        /// For how long it was tried.
        seconds: u64,
        /// The last trouble.
        last: String,
    },
    /// They crash over what was asked.
    #[error("servers that were well crashed over it {times} times in a row, the last one: {last}")]
    Crashed {
        /// How often.
        times: u32,
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

    /// Asks one server after the other until one answers, or `crashes_max` of them crashed over it.
    pub(crate) async fn ask<T>(
        &mut self,
        health: &impl Health,
        crashes_max: u32,
        request: impl AsyncFn(&Endpoint) -> Result<T, Trouble>,
    ) -> Result<T, GaveUp> {
        let began = Instant::now();
        let mut away_since = None;
        let (mut nonsense, mut crashes, mut last) = (0, 0, "there is none".to_owned());
        loop {
            let next = self.members.iter_mut().min_by_key(|member| member.not_before);
            let next = next.filter(|member| {
                member.not_before <= began + self.patience.busy
                    && away_since.is_none_or(|since| member.not_before <= since + self.patience.away)
            });
            let Some(member) = next else {
                let seconds = began.elapsed().as_secs();
                return Err(if crashes > 0 {
                    GaveUp::Lost { seconds, last }
                } else {
                    GaveUp::Away { seconds, last }
                });
            };
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
                Trouble::Crashed(_) => {
                    // It was there until now.
                    (crashes, away_since) = (crashes + 1, Some(Instant::now()));
                    if crashes >= crashes_max {
                        return Err(GaveUp::Crashed { times: crashes, last });
                    }
                }
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
                    Trouble::Away(_) | Trouble::Crashed(_) | Trouble::Unwell(_) | Trouble::Nonsense(_) => {
                        Duration::ZERO
                    }
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
            .ask(&Well, CRASHES_MAX, async |endpoint| {
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
            let gave_up =
                pool(1).ask(&Well, CRASHES_MAX, async |_| Err::<(), _>(trouble())).await.unwrap_err();
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
            pool.ask(&health, CRASHES_MAX, async |_| Ok(())).await.unwrap();
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
        pool.ask(&health, CRASHES_MAX, once).await.unwrap();
        assert_eq!(*health.0.lock().unwrap(), 2);
    }

    fn crashed() -> Trouble {
        Trouble::Crashed("the connection broke".into())
    }

    #[tokio::test(start_paused = true)]
    async fn servers_that_crash_over_one_thing_each_time_say_so_and_any_answer_says_otherwise() {
        let gave_up = pool(2).ask(&Well, CRASHES_MAX, async |_| Err::<(), _>(crashed())).await.unwrap_err();
        assert!(matches!(gave_up, GaveUp::Crashed { times: CRASHES_MAX, .. }), "{gave_up}");
        let gave_up = pool(2).ask(&Well, 1, async |_| Err::<(), _>(crashed())).await.unwrap_err();
        assert!(matches!(gave_up, GaveUp::Crashed { times: 1, .. }), "{gave_up}");

        let tries = Mutex::new(0);
        let third_time = async |_: &Endpoint| {
            let mut tries = tries.lock().unwrap();
            *tries += 1;
            if *tries < CRASHES_MAX { Err(crashed()) } else { Ok(()) }
        };
        assert_eq!(pool(1).ask(&Well, CRASHES_MAX, third_time).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_crashed_and_does_not_come_back_is_lost_over_it() {
        struct Once(Mutex<bool>);
        impl Health for Once {
            async fn check(&self, _: &Endpoint) -> Result<(), Trouble> {
                let was_there = std::mem::replace(&mut *self.0.lock().unwrap(), true);
                if was_there { Err(Trouble::Away("refused".into())) } else { Ok(()) }
            }
        }
        let began = Instant::now();
        let request = async |_: &Endpoint| Err::<(), _>(crashed());
        let gave_up = pool(1).ask(&Once(Mutex::new(false)), CRASHES_MAX, request).await.unwrap_err();
        assert!(matches!(gave_up, GaveUp::Lost { .. }), "{gave_up}");
        assert!(began.elapsed() <= Duration::from_mins(1), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_are_none_end_soon_and_no_server_at_all_at_once() {
        let nonsense = async |_: &Endpoint| Err::<(), _>(Trouble::Nonsense("HTML".into()));
        let gave_up = pool(2).ask(&Well, CRASHES_MAX, nonsense).await.unwrap_err();
        assert!(gave_up.to_string().starts_with("3 answers that are none"), "{gave_up}");
        let gave_up = pool(0).ask(&Well, CRASHES_MAX, nonsense).await.unwrap_err();
        assert_eq!(gave_up.to_string(), "no server could be asked for 0 s, the last one said: there is none");
    }
}
