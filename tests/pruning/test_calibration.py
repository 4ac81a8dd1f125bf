"""Calibration data: windows and batches drawn from a stream of tokens."""

import pytest
import torch

from prunebench.pruning import (
    CalibrationData,
)


class TestCalibrationData:
    def test_windows_are_different_pieces_of_the_stream(self) -> None:
        data = CalibrationData(torch.arange(100), nsamples=5, seqlen=8, seed=0)
        assert data.windows.shape == (5, 8)
        starts = data.windows[:, 0].tolist()
        assert len(set(starts)) == 5
        assert all(start % 8 == 0 for start in starts)
        assert torch.equal(data.windows, data.windows[:, :1] + torch.arange(8))

    def test_seeds_differ_and_repeat(self) -> None:
        pool = torch.arange(1000)
        draw = [CalibrationData(pool, nsamples=9, seqlen=8, seed=seed).windows for seed in (0, 0, 1)]
        assert torch.equal(draw[0], draw[1])
        assert not torch.equal(draw[0], draw[2])

    def test_batches_restart_anywhere(self) -> None:
        data = CalibrationData(torch.arange(1000), nsamples=9, seqlen=8, seed=3)
        batches = data.batches(4)
        first = [next(batches) for _ in range(5)]
        assert torch.equal(next(data.batches(4, start=3)), first[3])
        assert not torch.equal(first[0], first[1])
        assert first[0].shape == (4, 8)

    def test_documents_are_drawn_whole(self) -> None:
        pool = torch.arange(60).view(6, 10)
        data = CalibrationData(pool, nsamples=4, seqlen=10, seed=0)
        assert all(row[0] % 10 == 0 for row in data.windows)
        assert all(row[0] % 10 == 0 for row in next(data.batches(8)))

    def test_tokens_taken_are_counted(self) -> None:
        data = CalibrationData(torch.arange(1000), nsamples=9, seqlen=8, seed=0)
        assert data.tokens_seen == 0
        _ = data.windows, data.windows
        assert data.tokens_seen == 72
        next(data.batches(2))
        assert data.tokens_seen == 72 + 16

    def test_text_shorter_than_a_window_is_refused(self) -> None:
        with pytest.raises(ValueError, match="7 tokens is shorter than one window of 8"):
            CalibrationData(torch.arange(7), nsamples=1, seqlen=8, seed=0)

    def test_fewer_windows_than_asked_for(self) -> None:
        assert CalibrationData(torch.arange(20), nsamples=128, seqlen=8, seed=0).nsamples == 2
