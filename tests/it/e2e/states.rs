//! States of one directory, which hinder nothing else and end by themselves when their cause does.
