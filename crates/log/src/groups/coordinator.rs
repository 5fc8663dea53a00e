//! The classic rebalance protocol (KIP-62, static members of KIP-345) as a state machine without I/O: calls go in,
//! answers come out through one-shot channels, time is a parameter.
//!
//! A group is *empty*, or *preparing* (members are asked to join again), or *completing* (the leader is asked for the
//! assignment), or *stable*. There is no initial delay: the first member gets its partitions at once.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError as Error;
use tokio::sync::oneshot;

use super::{SavedGroup, SavedMember};

/// Longest session and rebalance timeout a member may ask for (Kafka's default maximum).
const MAX_TIMEOUT_MS: i32 = 1_800_000;
/// Members of one group.
const MAX_MEMBERS: usize = 10_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    #[default]
    Empty,
    Preparing,
    Completing,
    Stable,
}

impl Phase {
    /// Kafka's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Empty => "Empty",
            Phase::Preparing => "PreparingRebalance",
            Phase::Completing => "CompletingRebalance",
            Phase::Stable => "Stable",
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Group {
    pub phase: Phase,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    pub members: BTreeMap<String, Member>,
    /// Ids that were given out and not used yet, with the time they are forgotten.
    pending: HashMap<String, Duration>,
    /// When the wait for joins or for the assignment ends.
    deadline: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct Member {
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    pub protocols: Vec<(String, Bytes)>,
    pub assignment: Bytes,
    session_ends: Duration,
    join: Option<oneshot::Sender<Joined>>,
    sync: Option<oneshot::Sender<Synced>>,
}

#[derive(Debug)]
pub(crate) struct JoinRequest {
    pub member_id: String,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub protocol_type: String,
    pub protocols: Vec<(String, Bytes)>,
    /// Whether the client can be told its id first (JoinGroup v4).
    pub can_take_id: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Joined {
    pub error: i16,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: String,
    pub member_id: String,
    pub skip_assignment: bool,
    /// Id, instance and metadata of everyone; for the leader only.
    pub members: Vec<(String, Option<String>, Bytes)>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Synced {
    pub error: i16,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignment: Bytes,
}

/// What a sync leads to.
#[derive(Debug)]
pub(crate) enum SyncStep {
    Answer(Synced),
    Wait(oneshot::Receiver<Synced>),
    /// Keep the group durably, then send these answers.
    Save {
        group: SavedGroup,
        answers: Vec<(oneshot::Sender<Synced>, Synced)>,
        own: Synced,
    },
}

impl Group {
    /// A group from before the restart: its members go on in their generation.
    pub fn restore(saved: SavedGroup, now: Duration) -> Self {
        let member = |member: SavedMember| {
            let session_timeout = millis(member.session_timeout_ms);
            let protocols = member.protocols.into_iter().map(|(name, data)| (name, Bytes::from(data)));
            let restored = Member {
                instance: member.instance,
                client_id: member.client_id,
                client_host: member.client_host,
                session_timeout,
                rebalance_timeout: millis(member.rebalance_timeout_ms),
                protocols: protocols.collect(),
                assignment: member.assignment.into(),
                session_ends: now + session_timeout,
                join: None,
                sync: None,
            };
            (member.id, restored)
        };
        let members: BTreeMap<_, _> = saved.members.into_iter().map(member).collect();
        Self {
            phase: if members.is_empty() { Phase::Empty } else { Phase::Stable },
            generation: saved.generation,
            protocol_type: Some(saved.protocol_type),
            protocol: (!members.is_empty()).then_some(saved.protocol),
            leader: (!members.is_empty()).then_some(saved.leader),
            members,
            ..Self::default()
        }
    }

    pub fn save(&self) -> SavedGroup {
        let member = |(id, member): (&String, &Member)| SavedMember {
            id: id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            session_timeout_ms: member.session_timeout.as_millis() as i32,
            rebalance_timeout_ms: member.rebalance_timeout.as_millis() as i32,
            protocols: member.protocols.iter().map(|(name, data)| (name.clone(), data.to_vec())).collect(),
            assignment: member.assignment.to_vec(),
        };
        SavedGroup {
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self.protocol.clone().unwrap_or_default(),
            leader: self.leader.clone().unwrap_or_default(),
            members: self.members.iter().map(member).collect(),
        }
    }

    /// A member joins, for the first time or again. `fresh_id` is its id should it need one.
    pub fn join(
        &mut self,
        request: JoinRequest,
        fresh_id: String,
        now: Duration,
    ) -> Result<oneshot::Receiver<Joined>, Joined> {
        let refuse = |error: Error, member_id: &str| Joined {
            error: error.code(),
            generation: -1,
            member_id: member_id.to_owned(),
            ..Joined::default()
        };
        let timeouts = 1..=MAX_TIMEOUT_MS;
        if !timeouts.contains(&request.session_timeout_ms) || !timeouts.contains(&request.rebalance_timeout_ms) {
            return Err(refuse(Error::InvalidSessionTimeout, &request.member_id));
        }
        if !self.speaks(&request) {
            return Err(refuse(Error::InconsistentGroupProtocol, &request.member_id));
        }
        if self.members.len() >= MAX_MEMBERS && !self.members.contains_key(&request.member_id) {
            return Err(refuse(Error::GroupMaxSizeReached, &request.member_id));
        }
        let of_instance = request.instance.as_ref().and_then(|instance| self.member_of_instance(instance));
        let (answer, receiver) = oneshot::channel();
        let mut id = request.member_id.clone();
        if id.is_empty() {
            if let Some(old) = of_instance {
                return Ok(self.replace_static(&old, fresh_id, request, (answer, receiver), now));
            }
            id = fresh_id;
            if request.instance.is_none() && request.can_take_id {
                self.pending.insert(id.clone(), now + millis(request.session_timeout_ms));
                return Err(refuse(Error::MemberIdRequired, &id));
            }
        } else if of_instance.as_ref().is_some_and(|known| *known != id) {
            return Err(refuse(Error::FencedInstanceId, &id));
        } else if self.pending.remove(&id).is_none() && !self.members.contains_key(&id) {
            return Err(refuse(Error::UnknownMemberId, &id));
        }
        self.protocol_type.get_or_insert_with(|| request.protocol_type.clone());
        let unchanged = self.members.get(&id).is_some_and(|member| member.protocols == request.protocols);
        let is_leader = self.leader.as_ref() == Some(&id);
        let keep = unchanged && (self.phase == Phase::Completing || (self.phase == Phase::Stable && !is_leader));
        if keep {
            // The answer was lost on the way: the generation stays.
            self.touch(&id, now);
            let _ = answer.send(self.joined(&id));
            return Ok(receiver);
        }
        self.put(id, request, Some(answer), now);
        self.prepare(now);
        Ok(receiver)
    }

    fn speaks(&self, request: &JoinRequest) -> bool {
        if request.protocols.is_empty() || request.protocol_type.is_empty() {
            return false;
        }
        let others: Vec<_> = self.members.iter().filter(|(id, _)| **id != request.member_id).collect();
        if others.is_empty() {
            return true;
        }
        let same_type = self.protocol_type.as_ref().is_none_or(|kind| *kind == request.protocol_type);
        let knows =
            |name: &String| others.iter().all(|(_, member)| member.protocols.iter().any(|(known, _)| known == name));
        same_type && request.protocols.iter().any(|(name, _)| knows(name))
    }

    fn put(&mut self, id: String, request: JoinRequest, join: Option<oneshot::Sender<Joined>>, now: Duration) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type);
        }
        let session_timeout = millis(request.session_timeout_ms);
        let assignment = self.members.get(&id).map(|member| member.assignment.clone()).unwrap_or_default();
        let member = Member {
            instance: request.instance,
            client_id: request.client_id,
            client_host: request.client_host,
            session_timeout,
            rebalance_timeout: millis(request.rebalance_timeout_ms),
            protocols: request.protocols,
            assignment,
            session_ends: now + session_timeout,
            join,
            sync: None,
        };
        self.members.insert(id, member);
    }

    /// A static member came back under a new id: the old one is fenced, the partitions stay with the new one.
    fn replace_static(
        &mut self,
        old: &str,
        new: String,
        request: JoinRequest,
        (answer, receiver): (oneshot::Sender<Joined>, oneshot::Receiver<Joined>),
        now: Duration,
    ) -> oneshot::Receiver<Joined> {
        let Some(mut before) = self.members.remove(old) else { return receiver };
        let fenced = Error::FencedInstanceId.code();
        if let Some(join) = before.join.take() {
            let _ = join.send(Joined { error: fenced, generation: -1, member_id: old.to_owned(), ..Joined::default() });
        }
        if let Some(sync) = before.sync.take() {
            let _ = sync.send(Synced { error: fenced, ..Synced::default() });
        }
        if self.leader.as_deref() == Some(old) {
            self.leader = Some(new.clone());
        }
        let same = before.protocols == request.protocols;
        self.put(new.clone(), request, None, now);
        if let Some(member) = self.members.get_mut(&new) {
            member.assignment = before.assignment;
        }
        if self.phase == Phase::Stable && same {
            let _ = answer.send(Joined { skip_assignment: true, ..self.joined(&new) });
        } else {
            if let Some(member) = self.members.get_mut(&new) {
                member.join = Some(answer);
            }
            self.prepare(now);
        }
        receiver
    }

    fn member_of_instance(&self, instance: &str) -> Option<String> {
        let found = self.members.iter().find(|(_, member)| member.instance.as_deref() == Some(instance));
        found.map(|(id, _)| id.clone())
    }

    fn joined(&self, id: &str) -> Joined {
        let is_leader = self.leader.as_deref() == Some(id);
        let metadata = |member: &Member| {
            let chosen = member.protocols.iter().find(|(name, _)| Some(name) == self.protocol.as_ref());
            chosen.map(|(_, data)| data.clone()).unwrap_or_default()
        };
        let each = |(id, member): (&String, &Member)| (id.clone(), member.instance.clone(), metadata(member));
        Joined {
            error: 0,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: id.to_owned(),
            skip_assignment: false,
            members: if is_leader { self.members.iter().map(each).collect() } else { Vec::new() },
        }
    }

    /// Asks everyone to join again, and goes on at once when everyone has.
    fn prepare(&mut self, now: Duration) {
        if self.phase != Phase::Preparing {
            for member in self.members.values_mut() {
                if let Some(sync) = member.sync.take() {
                    let _ = sync.send(Synced { error: Error::RebalanceInProgress.code(), ..Synced::default() });
                }
            }
            self.phase = Phase::Preparing;
            let longest = self.members.values().map(|member| member.rebalance_timeout).max();
            self.deadline = Some(now + longest.unwrap_or_default());
        }
        if self.pending.is_empty() && self.members.values().all(|member| member.join.is_some()) {
            self.complete(now);
        }
    }

    /// Ends the wait for joins: who did not come is out, except static members.
    fn complete(&mut self, now: Duration) {
        self.members.retain(|_, member| member.join.is_some() || member.instance.is_some());
        self.generation = self.generation.wrapping_add(1).max(1);
        self.deadline = None;
        if self.members.is_empty() {
            (self.phase, self.protocol, self.leader) = (Phase::Empty, None, None);
            return;
        }
        self.protocol = self.vote();
        let joined = |id: &String| self.members.get(id).is_some_and(|member| member.join.is_some());
        if !self.leader.as_ref().is_some_and(joined) {
            self.leader = self.members.iter().find(|(_, member)| member.join.is_some()).map(|(id, _)| id.clone());
        }
        self.phase = Phase::Completing;
        let longest = self.members.values().map(|member| member.rebalance_timeout).max();
        self.deadline = Some(now + longest.unwrap_or_default());
        let answers: Vec<_> = self.members.keys().map(|id| (id.clone(), self.joined(id))).collect();
        for (id, answer) in answers {
            if let Some(member) = self.members.get_mut(&id) {
                member.session_ends = now + member.session_timeout;
                if let Some(join) = member.join.take() {
                    let _ = join.send(answer);
                }
            }
        }
    }

    /// The protocol that everyone knows and most prefer.
    fn vote(&self) -> Option<String> {
        let known =
            |name: &str| self.members.values().all(|member| member.protocols.iter().any(|(known, _)| known == name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| known(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_owned())
    }

    /// Whether `id` speaks for the current generation.
    pub fn check(&self, id: &str, instance: Option<&str>, generation: i32) -> Result<(), Error> {
        if let Some(known) = instance.and_then(|instance| self.member_of_instance(instance))
            && known != id
        {
            return Err(Error::FencedInstanceId);
        }
        if !self.members.contains_key(id) {
            return Err(Error::UnknownMemberId);
        }
        if generation != self.generation {
            return Err(Error::IllegalGeneration);
        }
        Ok(())
    }

    fn touch(&mut self, id: &str, now: Duration) {
        if let Some(member) = self.members.get_mut(id) {
            member.session_ends = now + member.session_timeout;
        }
    }

    pub fn heartbeat(&mut self, id: &str, instance: Option<&str>, generation: i32, now: Duration) -> Result<(), Error> {
        self.check(id, instance, generation)?;
        self.touch(id, now);
        if self.phase == Phase::Preparing { Err(Error::RebalanceInProgress) } else { Ok(()) }
    }

    /// A member asks for its partitions; the leader brings everyone's.
    pub fn sync(
        &mut self,
        (id, instance, generation): (&str, Option<&str>, i32),
        mut assignments: HashMap<String, Bytes>,
        now: Duration,
    ) -> SyncStep {
        let refuse = |error: Error| SyncStep::Answer(Synced { error: error.code(), ..Synced::default() });
        if let Err(error) = self.check(id, instance, generation) {
            return refuse(error);
        }
        self.touch(id, now);
        match self.phase {
            Phase::Empty => refuse(Error::UnknownMemberId),
            Phase::Preparing => refuse(Error::RebalanceInProgress),
            Phase::Stable => SyncStep::Answer(self.synced(id)),
            Phase::Completing if self.leader.as_deref() == Some(id) => {
                for (id, member) in &mut self.members {
                    member.assignment = assignments.remove(id).unwrap_or_default();
                    member.session_ends = now + member.session_timeout;
                }
                (self.phase, self.deadline) = (Phase::Stable, None);
                let ids: Vec<_> = self.members.keys().cloned().collect();
                let mut answers = Vec::new();
                for id in ids {
                    let answer = self.synced(&id);
                    if let Some(sync) = self.members.get_mut(&id).and_then(|member| member.sync.take()) {
                        answers.push((sync, answer));
                    }
                }
                SyncStep::Save { group: self.save(), answers, own: self.synced(id) }
            }
            Phase::Completing => {
                let (answer, receiver) = oneshot::channel();
                if let Some(member) = self.members.get_mut(id) {
                    member.sync = Some(answer);
                }
                SyncStep::Wait(receiver)
            }
        }
    }

    fn synced(&self, id: &str) -> Synced {
        let assignment = self.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default();
        Synced { error: 0, protocol_type: self.protocol_type.clone(), protocol: self.protocol.clone(), assignment }
    }

    /// A member goes, named by id or by instance; tells its id.
    pub fn leave(&mut self, id: &str, instance: Option<&str>, now: Duration) -> Result<String, Error> {
        let id = match instance {
            Some(instance) => {
                let known = self.member_of_instance(instance).ok_or(Error::UnknownMemberId)?;
                if !id.is_empty() && known != id {
                    return Err(Error::FencedInstanceId);
                }
                known
            }
            None => id.to_owned(),
        };
        if self.pending.remove(&id).is_some() {
            self.go_on(now);
            return Ok(id);
        }
        if !self.members.contains_key(&id) {
            return Err(Error::UnknownMemberId);
        }
        self.remove(&id, now);
        Ok(id)
    }

    fn remove(&mut self, id: &str, now: Duration) {
        let Some(mut member) = self.members.remove(id) else { return };
        let unknown = Error::UnknownMemberId.code();
        if let Some(join) = member.join.take() {
            let _ = join.send(Joined { error: unknown, generation: -1, member_id: id.to_owned(), ..Joined::default() });
        }
        if let Some(sync) = member.sync.take() {
            let _ = sync.send(Synced { error: unknown, ..Synced::default() });
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = None;
        }
        match self.phase {
            Phase::Stable | Phase::Completing => self.prepare(now),
            Phase::Preparing => self.go_on(now),
            Phase::Empty => {}
        }
    }

    fn go_on(&mut self, now: Duration) {
        if self.phase == Phase::Preparing {
            self.prepare(now);
        }
    }

    /// Lets time pass; `true` when the group became empty.
    pub fn tick(&mut self, now: Duration) -> bool {
        let before = self.phase;
        let pending = self.pending.len();
        self.pending.retain(|_, ends| *ends > now);
        if self.pending.len() < pending {
            self.go_on(now);
        }
        // A member that waits for an answer of ours is alive.
        let silent = |member: &Member| member.session_ends <= now && member.join.is_none() && member.sync.is_none();
        let gone: Vec<_> = self.members.iter().filter(|(_, member)| silent(member)).map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.remove(&id, now);
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            match self.phase {
                Phase::Preparing => {
                    self.pending.clear();
                    self.complete(now);
                }
                Phase::Completing => {
                    // The leader brought no assignment in time.
                    self.members.retain(|_, member| member.sync.is_some());
                    self.prepare(now);
                }
                Phase::Empty | Phase::Stable => self.deadline = None,
            }
        }
        before != Phase::Empty && self.phase == Phase::Empty
    }

    /// Whether nothing is left that time could change.
    pub fn is_idle(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty()
    }
}

fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Duration = Duration::from_secs(100);

    fn request(member_id: &str) -> JoinRequest {
        JoinRequest {
            member_id: member_id.into(),
            instance: None,
            client_id: "c".into(),
            client_host: "h".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), Bytes::from_static(b"topics"))],
            can_take_id: false,
        }
    }

    fn answer<T>(mut receiver: oneshot::Receiver<T>) -> T {
        receiver.try_recv().expect("the answer is there")
    }

    fn stable_with_one() -> Group {
        let mut group = Group::default();
        let joined = answer(group.join(request(""), "a".into(), T0).unwrap());
        assert_eq!((joined.error, joined.generation, joined.leader.as_str(), joined.members.len()), (0, 1, "a", 1));
        let assignments = HashMap::from([("a".to_owned(), Bytes::from_static(b"all"))]);
        let SyncStep::Save { own, .. } = group.sync(("a", None, 1), assignments, T0) else {
            panic!("the leader decides")
        };
        assert_eq!(own.assignment, "all");
        group
    }

    #[test]
    fn a_first_member_is_stable_at_once_and_a_second_makes_the_first_join_again() {
        let mut group = stable_with_one();
        let mut second = group.join(request(""), "b".into(), T0).unwrap();
        assert_eq!(group.heartbeat("a", None, 1, T0), Err(Error::RebalanceInProgress));
        assert!(second.try_recv().is_err(), "the second waits for the first");
        let first = answer(group.join(request("a"), "x".into(), T0).unwrap());
        assert_eq!((first.generation, first.members.len()), (2, 2));
        assert_eq!(answer(second).leader, "a");
        let SyncStep::Wait(follower) = group.sync(("b", None, 2), HashMap::new(), T0) else { panic!("followers wait") };
        let SyncStep::Save { answers, group: saved, .. } =
            group.sync(("a", None, 2), HashMap::from([("b".into(), Bytes::from_static(b"half"))]), T0)
        else {
            panic!("the leader decides")
        };
        answers.into_iter().for_each(|(sender, synced)| drop(sender.send(synced)));
        assert_eq!(answer(follower).assignment, "half");

        let restored = Group::restore(saved, T0);
        assert_eq!((restored.phase, restored.generation, restored.members.len()), (Phase::Stable, 2, 2));
        assert_eq!(restored.check("b", None, 2), Ok(()));
        assert_eq!(restored.check("b", None, 1), Err(Error::IllegalGeneration));
    }

    #[test]
    fn a_silent_member_is_out_after_its_session() {
        let mut group = stable_with_one();
        assert!(!group.tick(T0 + Duration::from_secs(9)));
        assert!(group.tick(T0 + Duration::from_secs(11)));
        assert_eq!((group.phase, group.is_idle()), (Phase::Empty, true));
        assert_eq!(group.heartbeat("a", None, 1, T0), Err(Error::UnknownMemberId));
    }

    #[test]
    fn a_static_member_comes_back_without_a_rebalance_and_fences_its_old_self() {
        let mut group = Group::default();
        let fixed = |id: &str| JoinRequest { instance: Some("i".into()), ..request(id) };
        answer(group.join(fixed(""), "a".into(), T0).unwrap());
        group.sync(("a", None, 1), HashMap::from([("a".into(), Bytes::from_static(b"all"))]), T0);
        let joined = answer(group.join(fixed(""), "b".into(), T0).unwrap());
        assert_eq!((joined.generation, joined.skip_assignment, joined.member_id.as_str()), (1, true, "b"));
        assert_eq!(group.heartbeat("a", Some("i"), 1, T0), Err(Error::FencedInstanceId));
        let SyncStep::Answer(synced) = group.sync(("b", Some("i"), 1), HashMap::new(), T0) else { panic!("stable") };
        assert_eq!(synced.assignment, "all");
    }

    #[test]
    fn a_member_that_does_not_join_again_is_dropped_at_the_deadline() {
        let mut group = stable_with_one();
        let second = group.join(request(""), "b".into(), T0).unwrap();
        for second in 1..=60 {
            let _ = group.heartbeat("a", None, 1, T0 + Duration::from_secs(second));
            group.tick(T0 + Duration::from_secs(second));
        }
        let joined = answer(second);
        assert_eq!((joined.leader.as_str(), joined.members.len()), ("b", 1));
    }
}
