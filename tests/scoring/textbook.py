"""The judge of edit distances: independent of what it judges, and plain enough to be read."""


def distance(ref, hyp, insertion=1, deletion=1, substitution=1):
    """Return the least cost of turning ref into hyp, by the table of the textbook."""
    row = [insertion * j for j in range(len(hyp) + 1)]
    for i, left in enumerate(ref, 1):
        above, row = row, [deletion * i]
        for j, right in enumerate(hyp, 1):
            same = above[j - 1] + (0 if left == right else substitution)
            row.append(min(same, above[j] + deletion, row[j - 1] + insertion))
    return row[-1]
