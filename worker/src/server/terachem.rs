//! TeraChem's protocol over TCP: messages of its `.proto` behind a header of eight bytes, their kind and their size, both big-endian.
//!
//! One job: submitted, asked after until it is done, and its output taken. What the energies are worth is for others to say.

use std::time::Duration;

use prost::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Endpoint;
use super::pool::Trouble;
use super::terachem_proto::status::JobStatus;
use super::terachem_proto::{JobInput, JobOutput, MessageType, Status};

/// How long a connection may take to be made.
const CONNECT_TIME_LIMIT: Duration = Duration::from_secs(5);
/// How long a server may take for any message: it answers while it computes.
const ANSWER_TIME_LIMIT: Duration = Duration::from_mins(1);
/// How often a server is asked whether it is done.
const POLL: Duration = Duration::from_millis(250);
/// More than any message with the orbitals of a molecule; what is longer is none.
const MESSAGE_BYTES_MAX: u32 = 256 << 20; // 256 MiB

/// A connection to a server.
#[derive(Debug)]
struct Session {
    stream: TcpStream,
}

/// Whether a server is there; busy is a trouble, too.
pub(crate) async fn check(endpoint: &Endpoint) -> Result<(), Trouble> {
    let status = Session::connect(endpoint).await?.status().await?;
    if status.busy { Err(busy()) } else { Ok(()) }
}

/// Has a server do a job. Once it is connected, silence and a broken connection are the end of a server that was at it.
pub(crate) async fn compute(endpoint: &Endpoint, job: &JobInput) -> Result<JobOutput, Trouble> {
    let session = Session::connect(endpoint).await?;
    match computed(session, endpoint, job).await {
        Err(Trouble::Away(how)) => Err(Trouble::Crashed(how)),
        done => done,
    }
}

async fn computed(mut session: Session, endpoint: &Endpoint, job: &JobInput) -> Result<JobOutput, Trouble> {
    session.send(MessageType::Jobinput, &job.encode_to_vec()).await?;
    let accepted: Status = session.receive(MessageType::Status).await?;
    if accepted.job_status != Some(JobStatus::Accepted(true)) {
        return Err(if accepted.busy { busy() } else { Trouble::Unwell("it takes no job".to_owned()) });
    }
    let (number, folder) = (accepted.server_job_id, accepted.job_dir);
    tracing::info!(server = %endpoint, job = number, folder, "job accepted");
    loop {
        match session.status().await?.job_status {
            Some(JobStatus::Completed(true)) => break,
            Some(JobStatus::Working(true)) => tokio::time::sleep(POLL).await,
            other => {
                return Err(Trouble::Away(format!("it has forgotten job {number} (its status: {other:?})")));
            }
        }
    }
    let output: JobOutput = session.receive(MessageType::Joboutput).await?;
    tracing::info!(server = %endpoint, job = number, energies = ?output.energy, "job done");
    fits(job, number, &output).map_err(Trouble::Nonsense)?;
    Ok(output)
}

/// Whether an output is that of this job.
fn fits(job: &JobInput, number: i32, output: &JobOutput) -> Result<(), String> {
    if output.energy.is_empty() {
        return Err(format!("the output of job {number} has no energy"));
    }
    if output.server_job_id != number {
        return Err(format!("an output of job {} (expected job {number})", output.server_job_id));
    }
    let atoms =
        |mol: Option<&super::terachem_proto::Mol>| mol.map(|mol| mol.atoms.clone()).unwrap_or_default();
    let (ours, theirs) = (atoms(job.mol.as_ref()), atoms(output.mol.as_ref()));
    if !theirs.is_empty() && theirs != ours {
        return Err(format!("the output of job {number} has {} other atoms", theirs.len()));
    }
    Ok(())
}

fn busy() -> Trouble {
    Trouble::Busy { after: None, said: "it has a job".to_owned() }
}

impl Session {
    async fn connect(endpoint: &Endpoint) -> Result<Self, Trouble> {
        let connected =
            tokio::time::timeout(CONNECT_TIME_LIMIT, TcpStream::connect(endpoint.address())).await;
        match connected {
            Ok(Ok(stream)) => Ok(Self { stream }),
            Ok(Err(error)) => Err(Trouble::Away(error.to_string())),
            Err(_) => Err(Trouble::Away("it takes no connection".to_owned())),
        }
    }

    /// Asks how it is.
    async fn status(&mut self) -> Result<Status, Trouble> {
        self.send(MessageType::Status, &[]).await?;
        self.receive(MessageType::Status).await
    }

    async fn send(&mut self, kind: MessageType, message: &[u8]) -> Result<(), Trouble> {
        let size = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let mut packet = Vec::with_capacity(8 + message.len());
        packet.extend((kind as u32).to_be_bytes());
        packet.extend(size.to_be_bytes());
        packet.extend(message);
        in_time(self.stream.write_all(&packet)).await
    }

    async fn receive<M: Message + Default>(&mut self, kind: MessageType) -> Result<M, Trouble> {
        let found = in_time(self.stream.read_u32()).await?;
        let size = in_time(self.stream.read_u32()).await?;
        if found != kind as u32 || size > MESSAGE_BYTES_MAX {
            let expected = format!("expected kind {} and {MESSAGE_BYTES_MAX} bytes at most", kind as u32);
            return Err(Trouble::Nonsense(format!(
                "a message of kind {found} and {size} bytes ({expected})"
            )));
        }
        let mut message = Vec::new();
        in_time((&mut self.stream).take(size.into()).read_to_end(&mut message)).await?;
        if message.len() < size as usize {
            return Err(Trouble::Away(format!(
                "its message broke off after {} of {size} bytes",
                message.len()
            )));
        }
        M::decode(&*message).map_err(|error| Trouble::Nonsense(format!("a message that is none: {error}")))
    }
}

async fn in_time<T>(io: impl Future<Output = std::io::Result<T>>) -> Result<T, Trouble> {
    match tokio::time::timeout(ANSWER_TIME_LIMIT, io).await {
        Ok(done) => done.map_err(|error| Trouble::Away(format!("the connection broke: {error}"))),
        Err(_) => Err(Trouble::Away("no answer in time".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::super::terachem_proto::Mol;
    use super::*;

    /// What a server says to each message that it gets: as it stands, so that anything can be said. Then it is silent.
    type Words = Vec<Vec<u8>>;

    fn packet(kind: MessageType, message: &impl Message) -> Vec<u8> {
        let message = message.encode_to_vec();
        let size = u32::try_from(message.len()).unwrap();
        [&(kind as u32).to_be_bytes()[..], &size.to_be_bytes(), &message].concat()
    }

    fn status(busy: bool, job_status: Option<JobStatus>) -> Vec<u8> {
        packet(MessageType::Status, &Status { busy, job_status, server_job_id: 7, ..Status::default() })
    }

    fn accepted() -> Vec<u8> {
        status(false, Some(JobStatus::Accepted(true)))
    }

    fn mol(atoms: &[&str]) -> Mol {
        Mol { atoms: atoms.iter().map(|&atom| atom.to_owned()).collect(), ..Mol::default() }
    }

    /// The last words of a job that is done: its status, and right behind it an output of these atoms.
    fn done(atoms: &[&str]) -> Vec<u8> {
        let output = JobOutput {
            mol: Some(mol(atoms)),
            energy: vec![-76.0],
            server_job_id: 7,
            ..JobOutput::default()
        };
        [status(false, Some(JobStatus::Completed(true))), packet(MessageType::Joboutput, &output)].concat()
    }

    /// A server that says these words and keeps its connection open all the same.
    async fn server(words: Words) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("terachem://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for said in words {
                let _kind = stream.read_u32().await.unwrap();
                let size = stream.read_u32().await.unwrap();
                stream.read_exact(&mut vec![0; size as usize]).await.unwrap();
                stream.write_all(&said).await.unwrap();
            }
            std::future::pending::<()>().await;
        });
        endpoint
    }

    async fn asked(words: Words) -> Result<JobOutput, Trouble> {
        let job = JobInput { mol: Some(mol(&["O", "H", "H"])), ..JobInput::default() };
        compute(&server(words).await, &job).await
    }

    #[tokio::test]
    async fn an_output_of_the_same_atoms_is_taken_and_of_others_is_nonsense() {
        assert_eq!(asked(vec![accepted(), done(&["O", "H", "H"])]).await.unwrap().energy, [-76.0]);
        let other = asked(vec![accepted(), done(&["O", "H"])]).await.unwrap_err();
        assert_eq!(other, Trouble::Nonsense("the output of job 7 has 2 other atoms".to_owned()));
        let elements = asked(vec![accepted(), done(&["S", "H", "H"])]).await.unwrap_err();
        assert!(matches!(elements, Trouble::Nonsense(_)), "{elements:?}");
    }

    #[tokio::test]
    async fn a_job_that_is_not_taken_is_no_molecules_fault() {
        let busy = asked(vec![status(true, None)]).await.unwrap_err();
        assert!(matches!(busy, Trouble::Busy { .. }), "{busy:?}");
        let refused = asked(vec![status(false, Some(JobStatus::Accepted(false)))]).await.unwrap_err();
        assert_eq!(refused, Trouble::Unwell("it takes no job".to_owned()));
    }

    #[tokio::test]
    async fn a_server_at_work_is_busy_and_an_idle_one_is_well() {
        let busy = check(&server(vec![status(true, Some(JobStatus::Working(true)))]).await).await;
        assert!(matches!(busy, Err(Trouble::Busy { .. })), "{busy:?}");
        assert_eq!(check(&server(vec![status(false, None)]).await).await, Ok(()));
    }

    #[tokio::test]
    async fn messages_of_another_kind_or_beyond_all_bounds_are_nonsense() {
        let header = |kind: u32, size: u32| [kind.to_be_bytes(), size.to_be_bytes()].concat();
        let (status, output) = (MessageType::Status as u32, MessageType::Joboutput as u32);
        for (kind, size) in [(output, 0), (99, 0), (status, MESSAGE_BYTES_MAX + 1), (status, u32::MAX)] {
            let trouble = asked(vec![header(kind, size)]).await.unwrap_err();
            let Trouble::Nonsense(said) = trouble else { panic!("{trouble:?}") };
            assert!(said.starts_with(&format!("a message of kind {kind} and {size} bytes")), "{said}");
        }
    }

    /// By the clock of the runtime, which moves on as soon as everybody waits.
    #[tokio::test(start_paused = true)]
    async fn a_server_that_falls_silent_is_given_up_after_a_minute() {
        let half = done(&["O", "H", "H"]);
        let half = half[..half.len() - 3].to_vec();
        for words in [vec![], vec![accepted()], vec![accepted(), half]] {
            let (began, said) = (Instant::now(), words.len());
            let trouble = asked(words).await.unwrap_err();
            assert_eq!(trouble, Trouble::Crashed("no answer in time".to_owned()), "{said} messages");
            assert_eq!(began.elapsed().as_secs(), ANSWER_TIME_LIMIT.as_secs(), "{said} messages");
        }
        let silent = check(&server(vec![]).await).await.unwrap_err();
        assert_eq!(silent, Trouble::Away("no answer in time".to_owned()));
    }
}
