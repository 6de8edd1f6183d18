"""Attempts of an attack taken step by step, without the runner: what each slot knows and asks at every moment."""

import numpy as np
import tensorflow as tf

from erkeras.attacks.contract import Batch
from erkeras.attacks.tensors import where


def batch_of(images, labels, model, seed=0, attempt=0):
    count = len(images)
    seeds = np.stack([np.full(count, seed), np.arange(count)], axis=1).astype(np.int64)
    parts = (images, np.asarray(labels, np.int32), model(tf.constant(images)), seeds, np.full(count, attempt, np.int32))
    return Batch(*map(tf.constant, parts))


def first_state(attack, batch):
    """What a slot knows before its first step."""
    count = len(batch.labels)
    return {
        "found": batch.images,
        "loss": tf.fill([count], -np.inf),
        "success": tf.zeros([count], bool),
        "finished": tf.zeros([count], bool),
        "answered": tf.ones([count], bool),
        "step": tf.zeros([count], tf.int32),
        **attack.initial(batch),
    }


def follow(attack, model, batch, delays=None):
    """States of every slot before each of its steps, name -> `[length, n, ...]`; a slot starts after its delay."""
    count = len(batch.labels)
    delays = np.zeros(count, int) if delays is None else delays
    first = first_state(attack, batch)

    @tf.function(autograph=False)
    def step(state, rests):
        new = {**state, **attack.step(model, batch, state), "step": state["step"] + 1}
        return {name: where(rests, state[name], new[name]) for name in state}

    state, states = first, []
    for moment in range(delays.max() + attack.length):
        states.append({name: value.numpy() for name, value in state.items()})
        state = step(state, tf.constant((moment < delays) | (moment >= delays + attack.length - 1)))
    moments = delays + np.arange(attack.length)[:, np.newaxis]
    return {name: np.stack([state[name] for state in states])[moments, np.arange(count)] for name in first}


def asked(attack, model, batch, state):
    """The images that a step of an attack without gradients asks for, as a tensor, and the state after it."""
    images = []

    def recorded(candidates):
        images.append(candidates)
        return model(candidates)

    state = {**state, **attack.step(recorded, batch, state), "step": state["step"] + 1}
    (candidates,) = images
    return candidates, state


def trace(attack, model, images, labels, steps):
    """Every candidate and every state of the first steps, in which finished slots go on."""
    batch = batch_of(images, labels, model)
    state = first_state(attack, batch)
    advance = tf.function(lambda state: asked(attack, model, batch, state), autograph=False)
    candidates, states = [], []
    for _ in range(steps):
        candidate, state = advance(state)
        candidates.append(candidate.numpy())
        states.append({name: value.numpy() for name, value in state.items()})
    return candidates, states
