"""The grammar of edits as text for the user: the source of all help pages and hints."""

from __future__ import annotations

GRAMMAR = """\
zero PART [@WHERE]                      it writes nothing
mean PART [@WHERE]                      it writes its mean over the prompt
scale PART FACTOR [@WHERE]              what it writes is multiplied by FACTOR
zero feature FEATURE [@WHERE]           the activation of a feature becomes 0
scale feature FEATURE FACTOR [@WHERE]   it is multiplied by FACTOR
set feature FEATURE to NUMBER [@WHERE]  it becomes NUMBER
patch PART [@WHERE] from B [@WHERE]     it writes what it writes in prompt B
patch stream LAYER [@WHERE] from B [@WHERE]
                                        the stream becomes that of prompt B
zero|mean SENDER into RECEIVER [@WHERE]
patch SENDER into RECEIVER [@WHERE] from B [@WHERE]
                                        the same, where one part alone reads it: an edge
steer LAYER VECTOR STRENGTH [@WHERE]    STRENGTH times a vector is added to the stream
swap LAYER TOKEN TOKEN [@WHERE]         two tokens change places in the stream
freeze norm NORM [@WHERE]               a norm keeps the scale of the unedited pass
block READER [@WHERE] from @WHERE       attention knockout: these tokens, or all later ones, no
                                        longer read those
force expert LAYER.EXPERT [@WHERE]      the router has to choose it, in place of the weakest
forbid expert LAYER.EXPERT [@WHERE]     the router cannot choose it: the next best runs

PART    head LAYER.HEAD, neuron LAYER.NEURON, attention LAYER, mlp LAYER or layer LAYER; of a
        mixture of experts neuron LAYER.EXPERT.NEURON, or LAYER.shared.NEURON of the shared experts
SENDER  head LAYER.HEAD, attention LAYER or mlp LAYER
READER  head LAYER.HEAD, or attention LAYER for all heads. Of a softmax the mask hides the tokens,
        and the keys that remain share the attention; of a layer with an exact map, such as Mamba or
        linear attention, what the map says is read is taken away, and no other weight changes.
        A token that is named on both sides does not read itself either; some key has to remain.
EXPERT  from 0. A forced expert has the weight that the model's gating gives to its own score; all
        that the router computes before and after its choice is the model's.
RECEIVER
        head LAYER.HEAD.q, .k or .v: the queries, keys or values of a head; head LAYER.HEAD, all
        three; attention LAYER, mlp LAYER, or logits. It reads the stream with what the edit changes
        in what the sender writes; all else reads the stream without that, so that several edges
        add up. Keys and values that heads share change for the named head alone.
LAYER   from 0; negative from the end, as heads and neurons. A stream is the one after that layer,
        as on the map; `embed` is the one before the first.
WHERE   tokens: 12, -1 (the last), 3..7 (7 included), 3.. and ..7; all of them if it is left out.
        After `from B`, tokens of B: as many, or one for all; the same ones if it is left out.
FEATURE LAYER/NUMBER, a feature of the dictionary at that layer; of several there,
        LAYER.mlp_out/NUMBER, by the place that one reads or predicts: resid_pre, resid_mid,
        resid_post, attn_out, mlp_in, mlp_normed, mlp_out, z, z.HEAD or mlp_act. What the dictionary
        predicts changes along the feature's decoder row, and the error of its reconstruction stays.
NORM    LAYER.attention or LAYER.mlp, named by what reads it, or final
VECTOR  FILE.safetensors, or FILE.safetensors:NAME of a file with several;
        token " Paris", the unembedding of one token, or token id:464;
        jlens " Paris", the direction that the learned lens reads as a token after that layer: the
        transposed linear part of its map, times the unembedding;
        feature FEATURE, the decoder row of a feature;
        "one prompt" - "another", the stream after the last token of one less that of the other
TOKEN   " Paris" or id:464. The parts of the stream along the directions of two tokens, as of
        `jlens`, are exchanged; what is orthogonal to both stays.

The learned lens is that of `llmscope snapshot --translator`, or scope.translator in Python; if
none is given, the Jacobian lens that comes with the model. Dictionaries are those of --features, or
scope.features in Python; if none are given, those that come with the model.
Words are parted by blanks. A text or a path with blanks, quotes or backslashes stands in quotes."""

EXAMPLES = (
    "zero head 5.3",
    "mean mlp -1",
    "scale neuron 7.120 2.5 @-1",
    "scale feature 5/1234 2",
    "set feature 5.mlp_out/1234 to 8 @-1",
    "patch stream 9 @12 from B",
    "patch head 3.0 into head 7.2.q from B",
    'steer 6 token " Paris" 4',
    "steer 6 vectors.safetensors:joy -1.5 @3..",
    'steer 6 jlens " Rome" 4',
    "steer 6 feature 5/1234 8",
    'steer 4 "I love it" - "I hate it" 2',
    'swap 6 " Paris" " Rome" @-1',
    "freeze norm final",
    "block head 5.3 @-1 from @2",
    "force expert 5.12 @-1",
    "forbid expert 5.12",
)

PATTERNS = {
    "zero": "zero PART [into RECEIVER] [@WHERE]",
    "mean": "mean PART [into RECEIVER] [@WHERE]",
    "scale": "scale PART FACTOR [@WHERE]",
    "set": "set feature LAYER/FEATURE to NUMBER [@WHERE]",
    "patch": "patch PART|stream LAYER [into RECEIVER] [@WHERE] from B [@WHERE]",
    "steer": "steer LAYER VECTOR STRENGTH [@WHERE]",
    "swap": "swap LAYER TOKEN TOKEN [@WHERE]",
    "freeze": "freeze norm LAYER.attention|LAYER.mlp|final [@WHERE]",
    "block": "block head LAYER.HEAD|attention LAYER [@WHERE] from @WHERE",
    "force": "force expert LAYER.EXPERT [@WHERE]",
    "forbid": "forbid expert LAYER.EXPERT [@WHERE]",
}
"""The grammar of each edit on one line, by its first word."""

PARTS = "head 5.3, neuron 5.120, attention 5, mlp 5 or layer 5"
EXPERT_NEURONS = "LAYER.EXPERT.NEURON, such as neuron 5.12.340 or neuron 5.shared.7"
EXPERTS = "LAYER.EXPERT, such as force expert 5.12 @-1 or forbid expert 5.12"
READERS = "block head 5.3 @-1 from @2 or block attention 5 from @2"
SENDERS = "head 5.3, attention 5 or mlp 5"
RECEIVERS = "head 7.2, head 7.2.q (or k, v), attention 7, mlp 7 or logits"
LAYERS = "a layer from 0, or from the end: -1 is the last"
STREAMS = f"{LAYERS}; embed is before the first"
TOKENS = "@12, @-1, @3..7, @3.. or @..7"
VECTORS = (
    'FILE.safetensors, token " Paris", jlens " Paris", feature 5/1234 or "one prompt" - "another"'
)
FEATURE_EDITS = "zero feature 5/1234, scale feature 5/1234 2 or set feature 5/1234 to 8"
FEATURES = "LAYER/FEATURE, such as 5/1234; of several dictionaries there, 5.mlp_out/1234"
NORM_NAMES = "5.attention, 5.mlp or final"
NUMBERS = "a number such as 0.5 or -2"
