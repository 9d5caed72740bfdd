/* Two never lead at once: elections as docs/explanation/leadership-in-an-outage.md describes them, for Spin.
 *
 * `nox -s model` checks this, and for each rule what happens without it. docs/explanation/the-election-model.md says
 * what is modelled, what is left out, and what was found.
 *
 * Time. Nobody can read a clock; there are timers, and all of them count down together at each tick. A tick may come
 * at any moment, also when a process is about to do something: that is a pause, anywhere, of any length.
 *
 * etcd. A write is a compare-and-swap on the revision that its sender has seen. So once one is applied, all others
 * that are on their way are void, and revisions need no numbers: a process has seen the record as it is (`current`)
 * or not. A write whose sender has given up may still be applied, much later.
 *
 * Messages are lost, late, repeated, or handed to a sibling on the same port. What may happen may also not happen,
 * for ever: nothing else is needed to model partitions and outages.
 *
 * Printing is for the trace of a counter-example (`spin -t`); it is no part of the search.
 */

/* -DSTEP_DOWN or -DSTAY; without either, "peers". -DBREAK_... breaks one rule, -DSHOW_... claims that something
 * cannot be reached, -DTAKES=, -DCHANGES= and -DRESTARTS= bound how often something happens. models/variants.py
 * says what each is for. ------------------------------------------------------------------------------------------ */

#if !defined(STEP_DOWN) && !defined(STAY)
#define PEERS 1
#else
#define PEERS 0
#endif

/* Seconds, as ticks. The margins are there for clocks that run at different rates. With the worst clocks that they
 * allow nothing is left of them: what a leader trusts ends in the same tick as what the others wait for. All other
 * clocks allow less, because whoever may act need not. */
#ifndef TTL
#define TTL 2
#endif
#ifndef CONFIRM_LIMIT
#define CONFIRM_LIMIT (TTL + 1)
#endif
#if defined(BREAK_REPLAY) || defined(BREAK_COUNTS_FROM_REPLY)
#define REPLIES                 /* are told apart from promises */
#endif
#define TRUSTED TTL             /* a leader, from when it sent what was answered */
#ifdef BREAK_PROMISE_MARGIN
#define PROMISED (TTL - 1)
#else
#define PROMISED TTL            /* a candidate, from when it received the request */
#endif
#ifdef BREAK_MARGIN
#define WAITED (TTL - 1)
#else
#define WAITED TTL              /* a challenger that is listed, from its first look */
#endif
#if PEERS
#define LIMIT CONFIRM_LIMIT             /* a leader, from when it sent its last renewal */
#ifdef BREAK_LIMIT_MARGIN
#define WAITED_UNLISTED (CONFIRM_LIMIT - 1)
#else
#define WAITED_UNLISTED CONFIRM_LIMIT   /* a challenger that is not listed, from its first look */
#endif
#else
#define LIMIT TRUSTED           /* without confirmations these have no meaning */
#define WAITED_UNLISTED WAITED
#endif

/* Who.  Three processes; an incarnation that has ended lives on in lists and late writes as GHOST. */
#ifndef RESTARTS
#define RESTARTS 1
#endif
#define N 3
#define NEXT(i) ((i + 1) % N)
#define LAST(i) ((i + 2) % N)
#define GHOST 3
#define NOBODY 4
#define IN(set, who) (((set) >> (who)) & 1)
#define ONLY(who) (1 << (who))
#define ALL 7

/* What a process may have sent to etcd, and what has become of it. */
#define NONE 0
#define TAKE 1
#define RENEW 2
#define RESIGN 3
#define APPLIED 1               /* ... and the record is still as it was written */
#define OVERWRITTEN 2

typedef Process {
    /* What it has seen of the record. */
    unsigned holder : 3;                /* at its last look */
    bool current;               /* nothing was written since */
    unsigned wait : 3;                  /* until it has been unrenewed for WAITED_UNLISTED */
    /* As a candidate. */
    unsigned promise : 2;               /* until the promise ends; 0: none is open */
    unsigned heard : 3;                 /* to whom it was given, plus 1; 0: none is open */
    /* As a leader: in its body while deadline > 0 and no promise is open. */
    unsigned deadline : 2;
    unsigned limit : 3;                 /* until the last renewal is too long ago for any confirmation */
    unsigned memory : 4;                /* whom it asks: everybody that the record might list */
    byte asked[N];              /* each: until what a promise may confirm, counted from when it was asked for */
    byte confirmed[N + 1];      /* each: until what it has confirmed; the last is GHOST's */
    /* Its write under way. */
    unsigned write : 2;
    unsigned list : 4;                  /* the candidates in that write */
    unsigned sent : 3;                  /* counts down from LIMIT since it was sent */
    unsigned answer : 2;
#ifdef REPLIES
    unsigned ever : 4;                  /* who has ever promised this incarnation anything */
#endif
#ifdef BREAK_ATOMIC
    bool entering;              /* has looked for a promise, and found none */
#endif
};

Process p[N];

/* Whom it lists at first: A and B, not C. Or only A, its holder. */
#ifdef LONE
#define FIRST_LIST 1
#else
#define FIRST_LIST (PEERS * 3)
#endif

/* The record in etcd, and one write whose sender no longer waits for it. */
unsigned record_holder : 3 = 0;
bool record_vacant = false;
unsigned record_list : 4 = FIRST_LIST;
unsigned late : 2; unsigned late_writer : 3; unsigned late_list : 4;
byte restarts = RESTARTS;
#ifdef TAKES
byte takes = TAKES;             /* how many may still be sent */
#define TAKE_LEFT (takes > 0)
#define COUNT_TAKE takes--
#else
#define TAKE_LEFT true
#define COUNT_TAKE skip
#endif
#ifdef CHANGES
byte changes = CHANGES;         /* how many renewals may still change the list */
#define CHANGE_LEFT (changes > 0)
#define COUNT_CHANGE if :: written != record_list -> changes-- :: else fi
#else
#define CHANGE_LEFT true
#define COUNT_CHANGE skip
#endif


#define LEADS(i) (p[i].deadline > 0 && p[i].promise == 0)
#define NO_TWO_LEAD assert(!(LEADS(0) && LEADS(1)) && !(LEADS(0) && LEADS(2)) && !(LEADS(1) && LEADS(2)))
#define NAME(i) (i + 65)        /* A, B, C; D is a ghost */

/* Entering the body, or staying in it. The assertion is the point of it all; a promise that ends is the other way. */
inline lead(i, until) {
    if
    :: until > p[i].deadline ->
        p[i].deadline = until;
        if
        :: LEADS(i) -> printf("%c leads for %d ticks\n", NAME(i), until)
        :: else -> printf("%c holds the record, but is bound by a promise\n", NAME(i))
        fi
    :: else
    fi;
    NO_TWO_LEAD
}

inline ask_nobody(i) {
    p[i].asked[0] = 0; p[i].asked[1] = 0; p[i].asked[2] = 0;
    p[i].confirmed[0] = 0; p[i].confirmed[1] = 0; p[i].confirmed[2] = 0; p[i].confirmed[GHOST] = 0;
#ifdef BREAK_COUNTS_FROM_REPLY
    p[i].ever = 0
#endif
}

/* Whether some question, or its answer, may still confirm something. */
#define ASKS(i) (p[i].asked[NEXT(i)] + p[i].asked[LAST(i)] + p[i].confirmed[NEXT(i)] + p[i].confirmed[LAST(i)] > 0 WAITS_FOR_REPLY(i))
#ifdef BREAK_COUNTS_FROM_REPLY
#define WAITS_FOR_REPLY(i) || p[i].ever != 0
#else
#define WAITS_FOR_REPLY(i)
#endif

/* What means nothing any more is 0, so that states which differ in nothing are not told apart. */
inline tidy(i) {
    if
    :: !PEERS || (p[i].deadline == 0 && !ASKS(i)) -> p[i].limit = 0; p[i].memory = 0; ask_nobody(i)
    :: else
    fi
}

inline step_down(i) {
    p[i].deadline = 0; ask_nobody(i); tidy(i)
}

inline forget_write(i) {
    p[i].write = NONE; p[i].list = 0; p[i].sent = 0; p[i].answer = NONE;
#ifdef BREAK_ATOMIC
    p[i].entering = false
#endif
}

/* etcd ---------------------------------------------------------------------------------------------------------- */

inline void_others(j) {
    if
    :: p[j].answer == APPLIED -> p[j].answer = OVERWRITTEN
    :: p[j].answer == NONE -> forget_write(j)           /* its compare fails; it will look */
    :: else
    fi;
    p[j].current = false; p[j].wait = 0
}

inline apply(writer, what, candidates) {
    void_others(0); void_others(1); void_others(2);
    if
    :: what == RESIGN -> record_vacant = true
    :: else -> record_vacant = false; record_holder = writer; record_list = candidates
    fi;
    late = NONE; late_writer = 0; late_list = 0
}

byte what, written, j;          /* scratch, 0 between steps */

/* The write that i waits for is applied; whether its answer arrives is another matter. */
inline apply_write(i) {
    printf("etcd applies the write of %c\n", NAME(i));
    what = p[i].write; written = p[i].list; j = p[i].sent;
    apply(i, what, written);
    p[i].write = what; p[i].list = written; p[i].sent = j; p[i].answer = APPLIED;
    what = 0; written = 0; j = 0
}

inline apply_late() {
#ifdef SHOW_LATE
    assert(late_writer != GHOST);
#endif
    printf("etcd applies the late write of %c\n", NAME(late_writer));
    what = late; written = late_list; j = late_writer;
    apply(j, what, written);
    what = 0; written = 0; j = 0
}

#define ON_ITS_WAY(i) (p[i].write != NONE && p[i].answer == NONE)

active proctype etcd() {
    do
    :: d_step { ON_ITS_WAY(0) -> apply_write(0) }
    :: d_step { ON_ITS_WAY(1) -> apply_write(1) }
    :: d_step { ON_ITS_WAY(2) -> apply_write(2) }
    :: d_step { late != NONE -> apply_late() }
    od
}

/* Time ---------------------------------------------------------------------------------------------------------- */

#define WATCHES(i) (p[i].current && p[i].holder != i)
#define DOWN(timer) timer = (timer > 0 -> timer - 1 : 0)

inline pass(i) {
#ifdef SHOW_CONFIRMED
    assert(!(LEADS(i) && p[i].limit > 0 && p[i].limit <= LIMIT - TRUSTED));
#endif
#ifndef STAY
    if
    :: p[i].deadline == 1 -> printf("%c leads no more: its deadline has passed\n", NAME(i))
    :: else
    fi;
    DOWN(p[i].deadline);
#endif
    DOWN(p[i].limit);
    DOWN(p[i].sent);
    DOWN(p[i].asked[0]); DOWN(p[i].asked[1]); DOWN(p[i].asked[2]);
    DOWN(p[i].confirmed[0]); DOWN(p[i].confirmed[1]); DOWN(p[i].confirmed[2]); DOWN(p[i].confirmed[GHOST]);
    if
#ifndef BREAK_RESTART
    :: p[i].promise > 0 && WATCHES(i) -> p[i].wait = WAITED_UNLISTED  /* an open promise restarts the observation */
#endif
    :: else -> DOWN(p[i].wait)
    fi;
    if
    :: p[i].promise == 1 -> printf("the promise of %c ends\n", NAME(i)); p[i].heard = 0
    :: else
    fi;
    DOWN(p[i].promise);
    tidy(i)
}

active proctype time() {
    do
    :: d_step { true -> printf("a tick passes\n"); pass(0); pass(1); pass(2); NO_TWO_LEAD }
    od
}

/* A process ----------------------------------------------------------------------------------------------------- */

/* A linearizable look at the record, when it has changed since the last one. */
inline look(i) {
    printf("%c looks at the record\n", NAME(i));
    forget_write(i);
    p[i].current = true;
    p[i].holder = (record_vacant -> NOBODY : record_holder);
    if
    :: record_vacant && p[i].heard == record_holder + 1 ->
        printf("the promise of %c ends: who got it has resigned\n", NAME(i));
        p[i].promise = 0; p[i].heard = 0
    :: else
    fi;
    if
    :: p[i].holder == i -> p[i].memory = record_list    /* ours, the answer was lost: adopted, the deadline stays */
    :: else ->
        step_down(i);
        p[i].wait = WAITED_UNLISTED;
#ifdef REPLIES
        p[i].ever = 0
#endif
    fi;
    tidy(i)
}

inline print_list(candidates) {
    if :: PEERS -> printf(" that lists ") :: else fi;
    if :: IN(candidates, 0) -> printf("A") :: else fi;
    if :: IN(candidates, 1) -> printf("B") :: else fi;
    if :: IN(candidates, 2) -> printf("C") :: else fi;
    if :: IN(candidates, GHOST) -> printf("D") :: else fi;
    printf("\n")
}

/* Whom the next write lists: as before, one more, or one less. */
inline choose_list(i) {
    written = record_list;
    if
    :: true
    :: PEERS && !IN(written, 0) -> written = written | ONLY(0)
    :: PEERS && !IN(written, 1) -> written = written | ONLY(1)
    :: PEERS && !IN(written, 2) -> written = written | ONLY(2)
    :: PEERS && i != 0 && IN(written, 0) -> written = written & ~ONLY(0)
    :: PEERS && i != 1 && IN(written, 1) -> written = written & ~ONLY(1)
    :: PEERS && i != 2 && IN(written, 2) -> written = written & ~ONLY(2)
    :: PEERS && IN(written, GHOST) -> written = written & ~ONLY(GHOST)
    fi
}

#ifdef BREAK_ADDS_UNDER_PROMISE
#define MAY_LIST(i) true
#else
#define MAY_LIST(i) (p[i].promise == 0)
#endif

inline send(i, kind, candidates) {
    if
    :: kind == TAKE -> printf("%c sends a takeover", NAME(i)); print_list(candidates)
    :: kind == RENEW -> printf("%c sends a renewal", NAME(i)); print_list(candidates)
    :: kind == RESIGN -> printf("%c ends its body and sends a resignation\n", NAME(i))
    fi;
    p[i].write = kind; p[i].list = candidates; p[i].sent = (kind == RESIGN -> 0 : LIMIT);
    if
    :: kind == RENEW && PEERS ->
#if defined(BREAK_ADDED_AFTER)
        skip
#elif defined(BREAK_REMOVED_BEFORE)
        p[i].memory = candidates
#else
        p[i].memory = p[i].memory | candidates
#endif
    :: else
    fi;
    tidy(i)
}

inline renew(i) {
    if
    :: MAY_LIST(i) && CHANGE_LEFT -> choose_list(i)
    :: else -> written = record_list
    fi;
    d_step { COUNT_CHANGE; send(i, RENEW, written); written = 0 }
}

#if !PEERS
#define RIPE(i) (p[i].wait <= WAITED_UNLISTED - WAITED)
#elif defined(BREAK_LISTED)
#define RIPE(i) (p[i].wait <= WAITED_UNLISTED - WAITED)
#else
#define RIPE(i) (p[i].wait == 0 || (IN(record_list, i) && p[i].wait <= WAITED_UNLISTED - WAITED))
#endif
#define FREE(i) (record_vacant || RIPE(i))
#ifdef BREAK_TAKES_UNDER_PROMISE
#define MAY_TAKE(i) true
#else
#define MAY_TAKE(i) (p[i].promise == 0)
#endif

/* Nobody even tries while the leader leads: existing leaders stay. A property of its own, checked where asked for. */
#ifdef CHECK_STAYS
#define LEFT_ALONE assert(record_vacant || record_holder == GHOST || !LEADS(record_holder))
#else
#define LEFT_ALONE skip
#endif

inline take(i) {
    LEFT_ALONE;
#ifdef BREAK_TAKE_LISTS
    choose_list(i);
#else
    written = record_list;
#endif
    d_step { COUNT_TAKE; written = written | (PEERS << i); send(i, TAKE, written); written = 0 }
}

/* A write of ours was applied: it counts from when it was sent. */
inline succeed(i) {
    printf("%c learns that its write was applied\n", NAME(i));
    if
    :: p[i].write == RESIGN -> p[i].holder = NOBODY
    :: else ->
#ifdef SHOW_TAKEOVER
        assert(p[i].write != TAKE || p[i].promise > 0 || p[i].sent <= LIMIT - TRUSTED);
#endif
#ifdef SHOW_NOT_IN_OFFICE
        assert(p[i].write != TAKE || p[i].promise == 0);
#endif
#ifdef SHOW_REGAINED
        assert(p[i].write != RENEW || p[i].deadline > 0 || p[i].promise > 0 || p[i].sent <= LIMIT - TRUSTED);
#endif
        p[i].holder = i;
        p[i].memory = p[i].list;
        p[i].limit = p[i].sent;
#if defined(BREAK_ENTRY)
        p[i].promise = 0; p[i].heard = 0;
#elif defined(BREAK_ATOMIC)
        if
        :: p[i].entering -> p[i].promise = 0; p[i].heard = 0
        :: else
        fi;
#endif
        if
        :: p[i].sent > LIMIT - TRUSTED -> lead(i, p[i].sent - (LIMIT - TRUSTED))
        :: else
        fi;
        tidy(i)
    fi;
    p[i].current = (p[i].answer == APPLIED);
    p[i].wait = (p[i].current && p[i].holder != i -> WAITED_UNLISTED : 0);
    forget_write(i)
}

inline give_up(i) {
    printf("%c gives up waiting for etcd\n", NAME(i));
    if
    :: p[i].answer == NONE ->
        if
        :: late = p[i].write; late_writer = i; late_list = p[i].list    /* it may still arrive ... */
        :: true                                                         /* ... or not */
        fi
    :: else
    fi;
    forget_write(i)
}

#ifdef BREAK_RESIGNS_UNDER_PROMISE
#define MAY_RESIGN(i) true
#else
#define MAY_RESIGN(i) (p[i].promise == 0)
#endif

/* Each is asked by itself, again and again. What one has confirmed counts from when it was asked. */
inline ask(i, j) {
    printf("%c asks %c\n", NAME(i), NAME(j));
    p[i].asked[j] = TRUSTED
}

#define MAY_ASK(i, j) (LEADS(i) && IN(p[i].memory, j) && p[i].asked[j] < TRUSTED)
#define IS_ASKED(j, i) (p[i].asked[j] > 0)
#define NEWS(j, i) (p[i].confirmed[j] < p[i].asked[j])

/* A request of i's arrives at j, once or again, and is answered. Vetoes and silence confirm nothing. */
#ifdef BREAK_VETO
#define AGREES(j, i) (p[j].holder == i || p[j].holder == j)
#else
#define AGREES(j, i) (p[j].holder == i)
#endif

inline promise_to(i, j) {
    printf("%c promises %c\n", NAME(j), NAME(i));
    p[j].promise = PROMISED; p[j].heard = i + 1
}

inline receive(j, i) {
    promise_to(i, j);
#ifndef BREAK_COUNTS_FROM_REPLY
    p[i].confirmed[j] = p[i].asked[j];
#endif
#ifdef REPLIES
    p[i].ever = p[i].ever | ONLY(j)
#endif
}

/* The deadline follows the oldest confirmation of all whom the record might list, but not beyond the limit. */
#define CONFIRMS(i, j) (!IN(p[i].memory, j) || p[i].confirmed[j] > p[i].deadline)
#ifdef BREAK_ONE_SILENT
#define ALL_CONFIRM(i) CONFIRMS(i, LAST(i)) && CONFIRMS(i, GHOST)
#else
#define ALL_CONFIRM(i) CONFIRMS(i, NEXT(i)) && CONFIRMS(i, LAST(i)) && CONFIRMS(i, GHOST)
#endif
#ifdef BREAK_ALONE
#define SOMEBODY(i) true
#else
#define SOMEBODY(i) (p[i].memory != ONLY(i))
#endif
#ifdef BREAK_LIMIT
#define MAY_GO_ON(i) true
#else
#define MAY_GO_ON(i) (p[i].limit > p[i].deadline)
#endif

inline not_beyond(i, j) {
    if
    :: IN(p[i].memory, j) && p[i].confirmed[j] < what && p[i].confirmed[j] > 0 -> what = p[i].confirmed[j]
    :: else
    fi
}

inline confirm(i) {
    printf("%c has everybody's promise\n", NAME(i));
    what = TRUSTED;
    not_beyond(i, NEXT(i)); not_beyond(i, LAST(i)); not_beyond(i, GHOST);
#ifndef BREAK_LIMIT
    if
    :: what > p[i].limit -> what = p[i].limit
    :: else
    fi;
#endif
    lead(i, what);
    what = 0
}

#define GHOSTED(set, i) set = (IN(set, i) -> (set & ~ONLY(i)) | ONLY(GHOST) : set)

/* A restart forgets everything: it is another incarnation, and what lists the old one lists a ghost. */
inline restart(i) {
    if
    :: p[i].write != NONE && p[i].answer == NONE ->
        if
        :: late = p[i].write; late_writer = i; late_list = p[i].list
        :: true
        fi
    :: else
    fi;
    d_step {
        printf("%c restarts as another incarnation\n", NAME(i));
        restarts--;
        step_down(i); forget_write(i);
        p[i].holder = NOBODY; p[i].current = false; p[i].wait = 0; p[i].promise = 0; p[i].heard = 0;
#ifdef REPLIES
        p[i].ever = 0;
#endif
#ifndef BREAK_INCARNATION
        if :: record_holder == i -> record_holder = GHOST :: else fi;
        if :: late != NONE && late_writer == i -> late_writer = GHOST :: else fi;
        GHOSTED(record_list, i); GHOSTED(late_list, i);
        j = 0;
        do
        :: j < N ->
            GHOSTED(p[j].memory, i); GHOSTED(p[j].list, i);
            if :: p[j].confirmed[i] > p[j].confirmed[GHOST] -> p[j].confirmed[GHOST] = p[j].confirmed[i] :: else fi;
            p[j].confirmed[i] = 0; p[j].asked[i] = 0;
            if :: p[j].holder == i -> p[j].holder = GHOST :: else fi;
            if :: p[j].heard == i + 1 -> p[j].heard = GHOST + 1 :: else fi;
            j++
        :: else -> break
        od;
        j = 0
#endif
    }
}

proctype process(byte i) {
    do
    :: d_step { !p[i].current && p[i].answer == NONE -> look(i) }
    :: atomic { p[i].current && p[i].holder == i && p[i].write == NONE -> renew(i) }
    :: atomic { p[i].current && p[i].holder != i && p[i].write == NONE && MAY_TAKE(i) && FREE(i) && TAKE_LEFT -> take(i) }
    :: d_step { p[i].answer != NONE -> succeed(i) }
    :: atomic { p[i].write != NONE -> give_up(i) }
    :: d_step { p[i].current && p[i].holder == i && p[i].write == NONE && MAY_RESIGN(i) ->
        step_down(i); send(i, RESIGN, 0) }
#if PEERS
    :: d_step { MAY_ASK(i, NEXT(i)) -> ask(i, NEXT(i)) }
    :: d_step { MAY_ASK(i, LAST(i)) -> ask(i, LAST(i)) }
    :: d_step { IS_ASKED(NEXT(i), i) && AGREES(NEXT(i), i) -> receive(NEXT(i), i) }
    :: d_step { IS_ASKED(LAST(i), i) && AGREES(LAST(i), i) -> receive(LAST(i), i) }
    :: d_step { p[i].holder == i && SOMEBODY(i) && ALL_CONFIRM(i) && MAY_GO_ON(i) -> confirm(i) }
#ifdef BREAK_SIBLING
    :: d_step { NEWS(NEXT(i), i) && AGREES(LAST(i), i) -> promise_to(i, LAST(i)); p[i].confirmed[NEXT(i)] = p[i].asked[NEXT(i)] }
    :: d_step { NEWS(LAST(i), i) && AGREES(NEXT(i), i) -> promise_to(i, NEXT(i)); p[i].confirmed[LAST(i)] = p[i].asked[LAST(i)] }
#endif
#ifdef BREAK_421
    :: d_step { NEWS(NEXT(i), i) -> printf("%c takes a 421 for a yes\n", NAME(i)); p[i].confirmed[NEXT(i)] = p[i].asked[NEXT(i)] }
    :: d_step { NEWS(LAST(i), i) -> printf("%c takes a 421 for a yes\n", NAME(i)); p[i].confirmed[LAST(i)] = p[i].asked[LAST(i)] }
#endif
#ifdef BREAK_REPLAY
    :: d_step { NEWS(NEXT(i), i) && IN(p[i].ever, NEXT(i)) -> printf("%c counts an old reply\n", NAME(i));
        p[i].confirmed[NEXT(i)] = p[i].asked[NEXT(i)] }
    :: d_step { NEWS(LAST(i), i) && IN(p[i].ever, LAST(i)) -> printf("%c counts an old reply\n", NAME(i));
        p[i].confirmed[LAST(i)] = p[i].asked[LAST(i)] }
#endif
#ifdef BREAK_COUNTS_FROM_REPLY
    :: d_step { IN(p[i].ever, NEXT(i)) -> printf("%c receives a promise\n", NAME(i));
        p[i].confirmed[NEXT(i)] = TRUSTED; p[i].ever = p[i].ever & ~ONLY(NEXT(i)) }
    :: d_step { IN(p[i].ever, LAST(i)) -> printf("%c receives a promise\n", NAME(i));
        p[i].confirmed[LAST(i)] = TRUSTED; p[i].ever = p[i].ever & ~ONLY(LAST(i)) }
#endif
#ifdef BREAK_ATOMIC
    :: d_step { p[i].answer != NONE && p[i].promise == 0 && !p[i].entering -> printf("%c finds that no promise is open\n", NAME(i));
        p[i].entering = true }
#endif
#endif
    :: atomic { restarts > 0 -> restart(i) }
    od
}

init {
    byte k = 0;
    atomic {
        do
        :: k < N ->
            p[k].holder = 0; p[k].current = true; p[k].wait = (k != 0 -> WAITED_UNLISTED : 0);
            k++
        :: else -> break
        od;
        p[0].deadline = TRUSTED; p[0].limit = (PEERS -> LIMIT : 0); p[0].memory = record_list;
        k = 0;
        run process(0); run process(1); run process(2)
    }
}
