"""The words that a report uses, for readers to whom they are new."""

WORDS = {
    "Chains, R-hat": (
        "Draws come from several chains, each of which walks through the posterior on "
        "its own. R-hat compares how far the chains are from one another with how far "
        "each of them spreads: 1 if they agree, above 1.01 if they tell different "
        "stories."
    ),
    "Effective sample size (ESS)": (
        "Draws of a chain resemble those before them. So many independent draws would "
        "know as much: bulk for the mean and the middle, tail for the ends of "
        "intervals."
    ),
    "Ratio": (
        "What the network learns: by how much parameters make the data more probable "
        "than they are on average over the prior. Posterior = prior × ratio."
    ),
    "Nat": "The unit of natural logarithms: one nat more is a factor of 2.7.",
    "Calibrated, coverage": (
        "Of many simulated data sets, regions of 95 % should hold the parameters that "
        "made them in 95 % of cases: fewer if the posterior is too narrow "
        "(over-confident), more if it is too wide (under-confident)."
    ),
    "Rank": (
        "The share of draws below the true value. Over many simulated data sets, all "
        "shares are equally frequent if the posterior is calibrated."
    ),
    "Ratio ROC test, AUC": (
        "Simulations from the prior, weighted by the ratio at some parameters, should "
        "look like simulations from just these parameters. A classifier tries to tell "
        "the two apart: an area under its curve (AUC) of 0.5 means that it cannot."
    ),
    "Normalisation": (
        "The mean of the exact ratio over the prior is one, for any data: a posterior "
        "integrates to one."
    ),
    "Balance": (
        "Over joint and shuffled pairs of parameters and data, the outputs of a "
        "classifier that is neither too sure nor too unsure add up to one."
    ),
    "Posterior predictive": (
        "Data simulated from draws of the posterior. Those that were observed should "
        "look like one more of them."
    ),
    "p-value": (
        "How often something at least as odd would be seen by chance alone, if nothing "
        "were wrong."
    ),
}
