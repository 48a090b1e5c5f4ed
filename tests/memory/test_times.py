"""Times: each expression with the exact stretch it names, and what looks like one and is none."""

import time
import unicodedata
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import spans
from memory.times import MAX_LENGTH, Period, periods, resolved

SEOUL = ZoneInfo("Asia/Seoul")
NEW_YORK = ZoneInfo("America/New_York")
NOW = datetime(2024, 5, 2, 15, tzinfo=SEOUL)  # a Thursday

# A text, said at NOW, and since and until of the one time in it.
MEANT = """
# days
I saw her today. | 2024-05-02 | 2024-05-03
yesterday | 2024-05-01 | 2024-05-02
What did I say yesterday evening? | 2024-05-01T17 | 2024-05-02
the day before yesterday | 2024-04-30 | 2024-05-01
I ate toast this morning | 2024-05-02T05 | 2024-05-02T12
We talked last night about rain | 2024-05-01T18 | 2024-05-02T06
tonight | 2024-05-02T18 | 2024-05-03T06
tomorrow morning | 2024-05-03T05 | 2024-05-03T12
the day after tomorrow | 2024-05-04 | 2024-05-05
On Monday I ran | 2024-04-29 | 2024-04-30
last Tuesday | 2024-04-30 | 2024-05-01
last Thursday | 2024-04-25 | 2024-04-26
next Friday | 2024-05-10 | 2024-05-11
this Wednesday | 2024-05-01 | 2024-05-02
Friday last week | 2024-04-26 | 2024-04-27
last week on Friday | 2024-04-26 | 2024-04-27
Sunday morning | 2024-04-28T05 | 2024-04-28T12
on Tuesday night | 2024-04-30T18 | 2024-05-01T06
this coming Saturday | 2024-05-04 | 2024-05-05
Let's meet upcoming Tuesday | 2024-05-07 | 2024-05-08
We met a year ago today. | 2022-11-02 | 2023-11-03
the last week of February | 2024-02-23 | 2024-03-01
vegan since 5 May | 2023-05-05 | 2024-05-03
three days ago | 2024-04-29 | 2024-04-30
10 days ago | 2024-04-22 | 2024-04-23
a couple of days ago | 2024-04-29 | 2024-05-01
a few days ago | 2024-04-26 | 2024-05-01
the other day | 2024-04-18 | 2024-05-01
an hour ago | 2024-05-02T13:30 | 2024-05-02T14:30
three hours ago | 2024-05-02T11:30 | 2024-05-02T12:30
# weeks
last week | 2024-04-22 | 2024-04-29
this week | 2024-04-29 | 2024-05-06
next week | 2024-05-06 | 2024-05-13
the week before last | 2024-04-15 | 2024-04-22
last weekend | 2024-04-27 | 2024-04-29
at the weekend | 2024-04-27 | 2024-04-29
this weekend | 2024-05-04 | 2024-05-06
a week ago | 2024-04-22 | 2024-04-29
two weeks ago | 2024-04-15 | 2024-04-22
a fortnight ago | 2024-04-15 | 2024-04-22
2 weeks ago on Friday | 2024-04-19 | 2024-04-20
in the past two weeks | 2024-04-18 | 2024-05-03
over the last few days | 2024-04-26 | 2024-05-03
earlier this week | 2024-04-29 | 2024-05-02
# months
last month | 2024-04-01 | 2024-05-01
this month | 2024-05-01 | 2024-06-01
next month | 2024-06-01 | 2024-07-01
a month ago | 2024-03-18 | 2024-04-18
two months ago | 2024-02-16 | 2024-03-18
half a year ago | 2023-10-02 | 2023-12-03
in March | 2024-03-01 | 2024-04-01
in May | 2024-05-01 | 2024-06-01
in July | 2023-07-01 | 2023-08-01
last December | 2023-12-01 | 2024-01-01
next September | 2024-09-01 | 2024-10-01
early March | 2024-03-01 | 2024-03-11
in mid-April | 2024-04-11 | 2024-04-21
late in February | 2024-02-21 | 2024-03-01
the end of last month | 2024-04-21 | 2024-05-01
March last year | 2023-03-01 | 2023-04-01
in March 2022 | 2022-03-01 | 2022-04-01
the 15th of last month | 2024-04-15 | 2024-04-16
on the 25th | 2024-04-25 | 2024-04-26
# years, seasons, decades
last year | 2023-01-01 | 2024-01-01
this year | 2024-01-01 | 2025-01-01
next year | 2025-01-01 | 2026-01-01
two years ago | 2021-11-02 | 2022-11-03
a year ago | 2022-11-02 | 2023-11-03
at the beginning of the year | 2024-01-01 | 2024-04-01
the end of last year | 2023-10-01 | 2024-01-01
in 2019 | 2019-01-01 | 2020-01-01
last summer | 2023-06-01 | 2023-09-01
last winter | 2023-12-01 | 2024-03-01
in the spring | 2024-03-01 | 2024-06-01
last fall | 2023-09-01 | 2023-12-01
in autumn 2021 | 2021-09-01 | 2021-12-01
next summer | 2024-06-01 | 2024-09-01
summer of 2022 | 2022-06-01 | 2022-09-01
in the nineties | 1990-01-01 | 2000-01-01
in the early 80s | 1980-01-01 | 1984-01-01
in the last three months | 2024-02-02 | 2024-05-03
in Q1 2024 | 2024-01-01 | 2024-04-01
# holidays
at Christmas | 2023-12-25 | 2023-12-26
on Christmas Eve | 2023-12-24 | 2023-12-25
before Christmas | 1900-01-01 | 2023-12-25
last Halloween | 2023-10-31 | 2023-11-01
on New Year's Eve | 2023-12-31 | 2024-01-01
New Year's Day | 2024-01-01 | 2024-01-02
at Easter | 2024-03-31 | 2024-04-01
Thanksgiving | 2023-11-23 | 2023-11-24
on Valentine's Day | 2024-02-14 | 2024-02-15
Christmas 2021 | 2021-12-25 | 2021-12-26
last year's Thanksgiving | 2023-11-23 | 2023-11-24
the week before Christmas | 2023-12-18 | 2023-12-25
the day after Easter | 2024-04-01 | 2024-04-02
Mother's Day 2023 | 2023-05-14 | 2023-05-15
We grilled on the 4th of July | 2023-07-04 | 2023-07-05
# relations
since last week | 2024-04-22 | 2024-05-03
since March | 2024-03-01 | 2024-05-03
after Easter | 2024-04-01 | 2024-05-03
until last Friday | 1900-01-01 | 2024-04-27
before 2020 | 1900-01-01 | 2020-01-01
between March and April | 2024-03-01 | 2024-05-01
from November to February | 2023-11-01 | 2024-03-01
between Christmas and New Year | 2023-12-25 | 2024-01-02
from 2019 to 2021 | 2019-01-01 | 2022-01-01
from Monday to Wednesday | 2024-04-29 | 2024-05-02
April 3-5 | 2024-04-03 | 2024-04-06
from March 3rd to March 10th | 2024-03-03 | 2024-03-11
I will call you on Monday | 2024-05-06 | 2024-05-07
We're going to Spain in July | 2024-07-01 | 2024-08-01
I have to finish it by Friday | 1900-01-01 | 2024-05-04
in two weeks | 2024-05-13 | 2024-05-20
# dates
3 May | 2024-05-03 | 2024-05-04
on 1 May | 2024-05-01 | 2024-05-02
May 3rd, 2024 | 2024-05-03 | 2024-05-04
2024-05-03 | 2024-05-03 | 2024-05-04
the 3rd of April | 2024-04-03 | 2024-04-04
on Friday, 12 April 2024 | 2024-04-12 | 2024-04-13
Feb 29 | 2024-02-29 | 2024-03-01
4/20/2024 | 2024-04-20 | 2024-04-21
on 4/20 | 2024-04-20 | 2024-04-21
2024/04 | 2024-04-01 | 2024-05-01
on the evening of 3 April | 2024-04-03T17 | 2024-04-04
2024-05-01T09:30 | 2024-05-01 | 2024-05-02
# 날
오늘 뭐 했지? | 2024-05-02 | 2024-05-03
어제 | 2024-05-01 | 2024-05-02
어제는 비가 왔다 | 2024-05-01 | 2024-05-02
어제 저녁에 | 2024-05-01T17 | 2024-05-02
그저께 | 2024-04-30 | 2024-05-01
그제 먹은 국수 | 2024-04-30 | 2024-05-01
엊그제 | 2024-04-29 | 2024-05-01
그끄저께 | 2024-04-29 | 2024-04-30
오늘 아침에 | 2024-05-02T05 | 2024-05-02T12
오늘아침 | 2024-05-02T05 | 2024-05-02T12
어젯밤에 꾼 꿈 | 2024-05-01T18 | 2024-05-02T06
간밤에 | 2024-05-01T18 | 2024-05-02T06
내일 오후 | 2024-05-03T12 | 2024-05-03T18
모레 | 2024-05-04 | 2024-05-05
사흘 전 | 2024-04-29 | 2024-04-30
3일 전에 | 2024-04-29 | 2024-04-30
열흘 전 | 2024-04-22 | 2024-04-23
이틀전 | 2024-04-30 | 2024-05-01
며칠 전에 | 2024-04-26 | 2024-05-01
세 시간 전 | 2024-05-02T11:30 | 2024-05-02T12:30
30분 전에 | 2024-05-02T14:25 | 2024-05-02T14:35
보름 전 | 2024-04-16 | 2024-04-19
얼마 전에 | 2024-03-03 | 2024-04-30
요즘 | 2024-04-02 | 2024-05-03
오늘 새벽 | 2024-05-02 | 2024-05-02T06
# 주
지난주 | 2024-04-22 | 2024-04-29
지난 주에 | 2024-04-22 | 2024-04-29
저번주 | 2024-04-22 | 2024-04-29
담주 | 2024-05-06 | 2024-05-13
다음 주 | 2024-05-06 | 2024-05-13
오는 토요일에 결혼식이야 | 2024-05-04 | 2024-05-05
다가오는 주말에 봐 | 2024-05-04 | 2024-05-06
작년 오늘 결혼했어 | 2023-05-02 | 2023-05-03
재작년 연말에 | 2022-12-01 | 2023-01-01
지지난주 | 2024-04-15 | 2024-04-22
이번 주 | 2024-04-29 | 2024-05-06
일주일 전 | 2024-04-22 | 2024-04-29
2주 전에 | 2024-04-15 | 2024-04-22
월요일에 | 2024-04-29 | 2024-04-30
지난주 금요일 | 2024-04-26 | 2024-04-27
지난주금욜에 | 2024-04-26 | 2024-04-27
다음주 화요일 | 2024-05-07 | 2024-05-08
지난 화요일 | 2024-04-30 | 2024-05-01
주말에 | 2024-04-27 | 2024-04-29
지난 주말 | 2024-04-27 | 2024-04-29
이번 주말 | 2024-05-04 | 2024-05-06
지난 2주 동안 | 2024-04-18 | 2024-05-03
# 달
지난달 | 2024-04-01 | 2024-05-01
저번 달에 | 2024-04-01 | 2024-05-01
이번 달 | 2024-05-01 | 2024-06-01
다음달 | 2024-06-01 | 2024-07-01
지난달 말 | 2024-04-21 | 2024-05-01
지난달 15일 | 2024-04-15 | 2024-04-16
한 달 전 | 2024-03-18 | 2024-04-18
두 달 전에 | 2024-02-16 | 2024-03-18
두달전 | 2024-02-16 | 2024-03-18
2개월 전 | 2024-02-16 | 2024-03-18
3월에 | 2024-03-01 | 2024-04-01
3월 초에 | 2024-03-01 | 2024-03-11
4월 중순 | 2024-04-11 | 2024-04-21
2월말 | 2024-02-21 | 2024-03-01
지난 3월 | 2024-03-01 | 2024-04-01
시월에 | 2023-10-01 | 2023-11-01
반년 전 | 2023-10-02 | 2023-12-03
최근 3개월 | 2024-02-02 | 2024-05-03
# 해
작년 | 2023-01-01 | 2024-01-01
작년 여름 | 2023-06-01 | 2023-09-01
재작년 겨울 | 2022-12-01 | 2023-03-01
올해 초 | 2024-01-01 | 2024-04-01
작년 말에 | 2023-10-01 | 2024-01-01
작년 3월 | 2023-03-01 | 2023-04-01
작년 이맘때 | 2023-04-17 | 2023-05-18
내년 | 2025-01-01 | 2026-01-01
십 년 전 | 2013-11-02 | 2014-11-03
3년 전 여름 | 2021-06-01 | 2021-09-01
지난해 가을 | 2023-09-01 | 2023-12-01
지난 겨울에 | 2023-12-01 | 2024-03-01
여름에 | 2023-06-01 | 2023-09-01
2019년에 | 2019-01-01 | 2020-01-01
90년대 | 1990-01-01 | 2000-01-01
2023년 상반기 | 2023-01-01 | 2023-07-01
# 명절
설날에 | 2024-02-09 | 2024-02-12
추석 때 | 2023-09-28 | 2023-10-01
작년 추석 | 2023-09-28 | 2023-10-01
2022년 설 연휴 | 2022-01-31 | 2022-02-03
크리스마스에 | 2023-12-25 | 2023-12-26
작년 크리스마스 이브 | 2023-12-24 | 2023-12-25
어린이날 | 2024-05-05 | 2024-05-06
크리스마스 전에 | 1900-01-01 | 2023-12-25
추석 전날 | 2023-09-27 | 2023-09-28
크리스마스 일주일 전 | 2023-12-15 | 2023-12-22
# 관계와 날짜
지난주부터 | 2024-04-22 | 2024-05-03
3월 이후로 | 2024-03-01 | 2024-05-03
지난 금요일까지 | 1900-01-01 | 2024-04-27
1월부터 3월까지 | 2024-01-01 | 2024-04-01
5월 1일 | 2024-05-01 | 2024-05-02
2024년 5월 | 2024-05-01 | 2024-06-01
2024년 5월 3일 | 2024-05-03 | 2024-05-04
5월 3일~5일 | 2024-05-03 | 2024-05-06
24년 4월 | 2024-04-01 | 2024-05-01
4/20에 | 2024-04-20 | 2024-04-21
2020년 이전에 | 1900-01-01 | 2020-01-01
어제 오후 3시에 | 2024-05-01T12 | 2024-05-01T18
어제 오후 8시에 | 2024-05-01T12 | 2024-05-02
금요일에 만날 거야 | 2024-05-03 | 2024-05-04
on the 18th of April | 2024-04-18 | 2024-04-19
We met on 3 May | 2023-05-03 | 2023-05-04
Sunday 19 May | 2024-05-19 | 2024-05-20
Friday 19 May | 2023-05-19 | 2023-05-20
between Christmas and the end of January | 2023-12-25 | 2024-02-01
my shop opened two years back | 2021-11-02 | 2022-11-03
It was moved to the 30th of May, they will tell us | 2024-05-30 | 2024-05-31
In November. | 2023-11-01 | 2023-12-01
3-5 April | 2024-04-03 | 2024-04-06
2019-2021 | 2019-01-01 | 2022-01-01
the beginning of next month | 2024-06-01 | 2024-06-11
postponed to the 9th of August, they said | 2024-08-09 | 2024-08-10
11th to the 14th of April | 2024-04-11 | 2024-04-15
오월 이십삼일에 온대 | 2024-05-23 | 2024-05-24
칠월에 돌아간대 | 2024-07-01 | 2024-08-01
two weekends ago | 2024-04-20 | 2024-04-22
three Mondays ago | 2024-04-15 | 2024-04-16
2024-05-03에 만났어 | 2024-05-03 | 2024-05-04
2024.05.03에 | 2024-05-03 | 2024-05-04
2024. 5. 3. | 2024-05-03 | 2024-05-04
6월 8일 토요일 | 2024-06-08 | 2024-06-09
6월 7일로 옮겼어 | 2024-06-07 | 2024-06-08
5월 3일에 만났어 | 2023-05-03 | 2023-05-04
올여름에 | 2024-06-01 | 2024-09-01
다다음 주 | 2024-05-13 | 2024-05-20
3~4년 전에 | 2019-11-02 | 2021-11-03
추석과 설날 사이에 | 2023-09-28 | 2024-02-12
"""

# Written before they were first tried.
HELD_OUT = """
Did we speak yesterday morning? | 2024-05-01T05 | 2024-05-01T12
I bought the bike four days ago | 2024-04-28 | 2024-04-29
what was that film I saw last Saturday night | 2024-04-27T18 | 2024-04-28T06
the weekend before last we went hiking | 2024-04-20 | 2024-04-22
We moved here about three years ago. | 2020-11-02 | 2021-11-03
my exam is the day after tomorrow | 2024-05-04 | 2024-05-05
I got the job in late January | 2024-01-21 | 2024-02-01
in the summer of 2020 | 2020-06-01 | 2020-09-01
since the beginning of the year | 2024-01-01 | 2024-05-03
over Easter we stayed home | 2024-03-31 | 2024-04-01
She was born on June 14, 1991 | 1991-06-14 | 1991-06-15
my dentist appointment is next Tuesday | 2024-05-07 | 2024-05-08
two or three weeks ago | 2024-04-08 | 2024-04-22
until the end of March | 1900-01-01 | 2024-04-01
Let's talk about it later this week | 2024-05-02 | 2024-05-06
What did I plan for next month? | 2024-06-01 | 2024-07-01
a year and a half ago | 2022-10-18 | 2022-11-18
this time last year | 2023-04-17 | 2023-05-18
from January 5 to January 9 | 2024-01-05 | 2024-01-10
between Monday and Wednesday | 2024-04-29 | 2024-05-02
two days before Christmas | 2023-12-23 | 2023-12-24
the Friday before last was awful | 2024-04-19 | 2024-04-20
sometime in the early nineties | 1990-01-01 | 1994-01-01
on Black Friday | 2023-11-24 | 2023-11-25
20 minutes ago | 2024-05-02T14:35 | 2024-05-02T14:45
We'll meet in June | 2024-06-01 | 2024-07-01
Back in 2015 I lived in Rome | 2015-01-01 | 2016-01-01
by the end of the month I must pay | 1900-01-01 | 2024-06-01
I finished the book on 11 March | 2024-03-11 | 2024-03-12
the first week of April | 2024-04-01 | 2024-04-08
어제 아침에 뭐 먹었지? | 2024-05-01T05 | 2024-05-01T12
나흘 전에 산 신발 | 2024-04-28 | 2024-04-29
지난주 토요일에 본 영화 | 2024-04-27 | 2024-04-28
저번 주말에 어디 갔더라 | 2024-04-27 | 2024-04-29
3년 전에 이사했어 | 2020-11-02 | 2021-11-03
내일모레 시험이야 | 2024-05-04 | 2024-05-05
1월 말에 취직했다 | 2024-01-21 | 2024-02-01
2020년 여름에 | 2020-06-01 | 2020-09-01
올해 초부터 운동을 시작했어 | 2024-01-01 | 2024-05-03
1991년 6월 14일에 태어났어 | 1991-06-14 | 1991-06-15
다음 주 목요일에 치과 예약 | 2024-05-09 | 2024-05-10
두세 달 전에 | 2024-01-18 | 2024-03-18
3월 말까지 | 1900-01-01 | 2024-04-01
다음 달에 뭐 하기로 했지? | 2024-06-01 | 2024-07-01
일 년 반 전 | 2022-10-18 | 2022-11-18
월요일부터 수요일까지 | 2024-04-29 | 2024-05-02
크리스마스 이틀 전에 | 2023-12-23 | 2023-12-24
90년대 초반에 | 1990-01-01 | 1994-01-01
20분 전에 전화했어 | 2024-05-02T14:35 | 2024-05-02T14:45
6월에 만날 예정이야 | 2024-06-01 | 2024-07-01
작년 10월 9일 | 2023-10-09 | 2023-10-10
지난 설에 세뱃돈 받았어 | 2024-02-09 | 2024-02-12
요 며칠 잠을 못 잤어 | 2024-04-26 | 2024-05-03
재작년 봄 | 2022-03-01 | 2022-06-01
토요일 저녁에 | 2024-04-27T17 | 2024-04-28
작년 가을부터 올해 봄까지 | 2023-09-01 | 2024-06-01
지지난 주말 | 2024-04-20 | 2024-04-22
한 달쯤 전에 | 2024-03-18 | 2024-04-18
4월 첫째 주 | 2024-04-01 | 2024-04-08
그저께 밤에 | 2024-04-30T18 | 2024-05-01T06
What did I cook last Friday evening? | 2024-04-26T17 | 2024-04-27
ten weeks ago I started running | 2024-02-19 | 2024-02-26
Which book did I read over the summer? | 2023-06-01 | 2023-09-01
when did I say that, around Easter? | 2024-03-31 | 2024-04-01
the night before last | 2024-04-30T18 | 2024-05-01T06
I saw him a few weeks ago | 2024-03-18 | 2024-04-22
my birthday was on April 9th | 2024-04-09 | 2024-04-10
early last year I quit | 2023-01-01 | 2023-04-01
at the end of 2022 | 2022-10-01 | 2023-01-01
since 3 April 2023 | 2023-04-03 | 2024-05-03
the past month was hard | 2024-04-02 | 2024-05-03
two Fridays ago | 2024-04-19 | 2024-04-20
지난주 수요일 밤에 | 2024-04-24T18 | 2024-04-25T06
작년 크리스마스에 뭐 했지 | 2023-12-25 | 2023-12-26
지난달 초에 시작했어 | 2024-04-01 | 2024-04-11
한 2주 전쯤에 | 2024-04-15 | 2024-04-22
2022년 말에 | 2022-10-01 | 2023-01-01
4월 9일이 생일이었어 | 2024-04-09 | 2024-04-10
지난 한 달 동안 힘들었어 | 2024-04-02 | 2024-05-03
2023년 4월 3일부터 | 2023-04-03 | 2024-05-03
그끄제 저녁 | 2024-04-29T17 | 2024-04-30
저번 달 20일에 | 2024-04-20 | 2024-04-21
올해 1월에 뭐라고 했더라 | 2024-01-01 | 2024-02-01
지지난달에 | 2024-03-01 | 2024-04-01
"""

NO_TIME = """
It may rain
May I ask something?
may the force be with you
You may want to march on
We march on
a protest march
Wait a second
the second one is better
Don't fall down
I might fall asleep
a spring roll
the spring water tastes good
the sun is out
sat on the bench
I sat down
April said she likes it
I met June and her brother
June is my sister
August told me a joke
I talked with April
this may help
the last may be wrong
She was wed in white
The dec file is broken
at 8 pm
at noon
8:30
in 20 minutes
in a minute
every Monday
every summer we swim
each March
I work on Mondays
Merry Christmas!
Happy New Year!
the Christmas tree is up
3/4 cup of flour
24/7
1/2 of it
version 2024.1
999999999 years ago
99999 days ago
call 010-2024-0503
192.168.10.12
2024 words
I ran it in 2 hours
she is in her thirties
he did it in two days
the last one
this one is last
last but not least
one day we will see
some day
all day
the next day
for three weeks
two weeks before the exam
a day in the life
the other one
page 12
march 3 miles
it's the 3rd time
on the 2nd floor
good morning
good night
the present moment
a dated joke
99/99
2024-13-45
2023-02-30
31 February
Feb 30
March on!
일이 많아
오늘날의 사회
3월드
이 달걀
오일을 갈았다
오일
그제야 알았다
그제서야 웃었다
매주 월요일에
매년 여름에
주말마다 등산을 가
다음 주문은 언제?
이번 주제는 뭐야
지난 주문
봄이라는 강아지
달이 밝다
해가 뜬다
물 한 잔
한 달 동안
내 일이야
용기를 낼 때
시험 두 달 전
일일이 말하지 마
전화했어
3일에 한 번
99999일 전
999999999년 전
월급이 적어
토토가 귀여워
일본에 가고 싶어
금을 샀다
수요가 많다
화가 났다
목이 아파
올리브 오일
설명해 줘
설마
추석 음식 레시피
크리스마스 트리
새해 복 많이 받아
3시 10분 전
말이 많다
말 그대로
밤을 먹었다
낮은 의자
주말농장
The next year we married.
그 다음 달에 그만뒀어
My last year of college
오전에
2인분
천 원
가을이라는 이름
하루 종일
이년아
작년도감
"""


def rows(table: str) -> list[tuple[str, str, str]]:
    lines = [line for line in table.strip().splitlines() if not line.startswith("#")]
    return [
        (text.strip(), a.strip(), b.strip()) for text, a, b in (x.rsplit("|", 2) for x in lines)
    ]


def seoul(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=SEOUL)


def named(text: str, now: datetime = NOW, zone: ZoneInfo = SEOUL) -> list[str]:
    return [text[period.start : period.end] for period in periods(text, now, zone)]


@pytest.mark.parametrize(("text", "since", "until"), rows(MEANT) + rows(HELD_OUT))
def test_an_expression_names_its_stretch(text: str, since: str, until: str) -> None:
    found = [(period.since, period.until) for period in periods(text, NOW, SEOUL)]
    assert found == [(seoul(since), seoul(until))]


@pytest.mark.parametrize("text", NO_TIME.strip().splitlines())
def test_what_only_looks_like_a_time_is_none(text: str) -> None:
    assert named(text) == []


@pytest.mark.parametrize(("text", "since", "until"), rows(MEANT) + rows(HELD_OUT))
def test_decomposed_text_means_the_same(text: str, since: str, until: str) -> None:
    decomposed = unicodedata.normalize("NFD", text)
    found = periods(decomposed, NOW, SEOUL)
    assert [(period.since, period.until) for period in found] == [(seoul(since), seoul(until))]
    composed = [unicodedata.normalize("NFC", decomposed[p.start : p.end]) for p in found]
    assert composed == named(text)


def test_periods_stand_in_text_order_and_apart() -> None:
    text = "Yesterday we ate. 지난주 금요일에는 쉬었어. In March 2023 it rained."
    assert named(text) == ["Yesterday", "지난주 금요일", "March 2023"]


def test_the_place_takes_in_what_relates_it() -> None:
    assert named("We were tired since last week.") == ["since last week"]
    assert named("그건 3월부터 5월까지였어") == ["3월부터 5월까지"]
    assert named("the two weeks before Christmas 2022 were cold") == [
        "two weeks before Christmas 2022"
    ]


def test_a_month_is_the_last_one_that_has_begun() -> None:
    february = datetime(2025, 2, 10, 12, tzinfo=SEOUL)
    (march,) = periods("in March", february, SEOUL)
    assert (march.since, march.until) == (seoul("2024-03-01"), seoul("2024-04-01"))


def test_a_dated_turn_is_read_from_its_own_day() -> None:
    for now, since in ((NOW, "2024-05-01"), (NOW - timedelta(days=300), "2023-07-06")):
        (day,) = periods("어제 만났어", now, SEOUL)
        assert day.since == seoul(since)


def test_the_zone_decides_which_day_it_is() -> None:
    moment = datetime(2024, 5, 2, 2, tzinfo=UTC)  # 11 o'clock in Seoul, the evening before in NY
    assert periods("today", moment, SEOUL)[0].since == datetime(2024, 5, 2, tzinfo=SEOUL)
    assert periods("today", moment, NEW_YORK)[0].since == datetime(2024, 5, 1, tzinfo=NEW_YORK)


def test_a_day_of_summer_time_has_its_own_length() -> None:
    monday = datetime(2024, 3, 11, 9, tzinfo=NEW_YORK)
    (short,) = periods("yesterday", monday, NEW_YORK)
    assert short.until.astimezone(UTC) - short.since.astimezone(UTC) == timedelta(hours=23)
    autumn = datetime(2024, 11, 4, 9, tzinfo=NEW_YORK)
    (long,) = periods("yesterday", autumn, NEW_YORK)
    assert long.until.astimezone(UTC) - long.since.astimezone(UTC) == timedelta(hours=25)


def test_hours_ago_are_hours_on_the_clock() -> None:
    now = datetime(2024, 3, 10, 4, tzinfo=NEW_YORK)  # the hour from 2 to 3 was left out
    (found,) = periods("three hours ago", now, NEW_YORK)
    middle = found.since.astimezone(UTC) + (found.until - found.since) / 2
    assert now.astimezone(UTC) - middle == timedelta(hours=3)
    assert found.since.astimezone(NEW_YORK).hour == 23


def test_without_a_zone_it_is_the_system_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        (winter,) = periods("in January", NOW)
        (summer,) = periods("in July 2023", NOW)
        assert winter.since == datetime(2024, 1, 1, 5, tzinfo=UTC)
        assert summer.since == datetime(2023, 7, 1, 4, tzinfo=UTC)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_both_ends_are_aware() -> None:
    for zone in (None, SEOUL, NEW_YORK):
        for period in periods("before 2020, last week, an hour ago, since 작년", NOW, zone):
            assert period.since.utcoffset() is not None
            assert period.since < period.until


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("I met her on Sunday", "2024-04-28"),
        ("I will meet her on Sunday", "2024-05-05"),
        ("I'm meeting her on Sunday", "2024-05-05"),
        ("일요일에 만났어", "2024-04-28"),
        ("일요일에 만날게", "2024-05-05"),
        ("일요일에 가야 해", "2024-05-05"),
        ("She landed on Sunday, and she'll stay a week", "2024-04-28"),
        ("I need to tell you something, I was fired on Sunday", "2024-04-28"),
        ("We were ill but we'll come on Sunday", "2024-05-05"),
        ("They brought the bed on Sunday", "2024-04-28"),
        ("I met her on Thursday", "2024-04-25"),  # today is one
        ("The funeral's on Sunday", "2024-05-05"),
        ("We met at Dot's on Sunday", "2024-04-28"),
        ("She starts on Sunday, she told me", "2024-05-05"),
        ("Moved in with Mr. Ho on the 8th, it was 4.4 degrees", "2024-04-08"),
        ("The scan is the 16th.", "2024-05-16"),
        ("It was moved to the 16th.", "2024-05-16"),
        ("It was moved to the 28th, and all went well.", "2024-04-28"),  # 26 days ahead: unlikely
        ("He's here. They brought him home. Sunday, at four.", "2024-04-28"),
        ("Home Sunday. It was five nights.", "2024-04-28"),
        ("Thursday the 16th", "2024-05-16"),
        ("It was June, the 15th, I think", "2023-06-15"),
        ("Since the second of April", "2024-04-02"),
        ("I pay on the first of the month", "2024-05-01"),
    ],
)
def test_tense_tells_which_day_is_meant(text: str, meant: str) -> None:
    assert [period.since for period in periods(text, NOW, SEOUL)] == [seoul(meant)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Yesterday I ran", "Yesterday (1 May 2024) I ran"),
        ("It was last week.", "It was last week (22–28 April 2024)."),
        ("this week", "this week (29 April–5 May 2024)"),
        ("last winter", "last winter (December 2023–February 2024)"),
        ("next month", "next month (June 2024)"),
        ("last year", "last year (2023)"),
        ("I left in March", "I left in March"),
        ("two months ago", "two months ago (about March 2024)"),
        ("an hour ago", "an hour ago (2 May 2024, about 14:00)"),
        ("We met before Christmas", "We met before Christmas"),
        (
            "from last Monday to yesterday",
            "from last Monday (29 April 2024) to yesterday (1 May 2024)",
        ),
        ("지난주에 갔어", "지난주(2024년 4월 22일~28일)에 갔어"),
        ("이번 주", "이번 주(2024년 4월 29일~5월 5일)"),
        ("어제부터 아파", "어제(2024년 5월 1일)부터 아파"),
        ("작년 겨울", "작년 겨울(2023년 12월~2024년 2월)"),
        ("두 달 전에", "두 달 전(2024년 3월쯤)에"),
        ("세 시간 전", "세 시간 전(2024년 5월 2일 12:00쯤)"),
        ("지난달", "지난달(2024년 4월)"),
        ("3월에 만났어", "3월에 만났어"),
        ("My flight left on 14 March", "My flight left on 14 March"),
        # A year to come, unless it comes every year.
        ("My flight leaves on 14 March", "My flight leaves on 14 March (2025)"),
        ("My visa runs out on 1 April", "My visa runs out on 1 April (2025)"),
        ("3월 14일에 결혼할 거야", "3월 14일(2025년)에 결혼할 거야"),
        ("Her birthday is on 14 March", "Her birthday is on 14 March"),
        ("누나 생일은 3월 14일이야", "누나 생일은 3월 14일이야"),
        # What names its year, says only "lately", or is a guess stays as it is.
        ("in March 2022", "in March 2022"),
        ("2024년 5월 3일에", "2024년 5월 3일에"),
        ("in the nineties", "in the nineties"),
        ("I sleep badly lately", "I sleep badly lately"),
        ("Pancakes on Friday", "Pancakes on Friday"),
        ("Dentist on Friday", "Dentist on Friday (3 May 2024)"),
        (
            "Applied there. Osteopath friday at 11",
            "Applied there. Osteopath friday (3 May 2024) at 11",
        ),
        (
            "She left. Scan on Friday was clear",
            "She left. Scan on Friday (26 April 2024) was clear",
        ),
        ("They pushed the medical to Friday", "They pushed the medical to Friday (3 May 2024)"),
        ("Train's cancelled, home friday now", "Train's cancelled, home friday (3 May 2024) now"),
        ("Ada stays home till friday", "Ada stays home till friday (3 May 2024)"),
        (
            "the vet moved us from the 8th to Friday at 4",
            "the vet moved us from the 8th (8 May 2024) to Friday (3 May 2024) at 4",
        ),
        (
            "She was ill from Monday to Wednesday",
            "She was ill from Monday (29 April 2024) to Wednesday (1 May 2024)",
        ),
        ("rent was put up from May to August", "rent was put up from May to August"),
        (
            "booked it, out on 7 sept and back on the 21st",
            "booked it, out on 7 sept and back on the 21st (21 September 2023)",
        ),
        (
            "Easter then. The visit is on the 19th",
            "Easter then. The visit is on the 19th (19 May 2024)",
        ),
        ("It broke. I call you on Friday.", "It broke. I call you on Friday."),
        ("She left. The third Friday we swim", "She left. The third Friday we swim"),
        ("Take her on a Friday, she asked", "Take her on a Friday, she asked"),
        ("We left on the first of March", "We left on the first of March (1 March 2024)"),
        ("Auntie phoned. Friday.", "Auntie phoned. Friday (26 April 2024)."),
        ("yesterday (1 May 2024)", "yesterday (1 May 2024)"),
        ("a concert in July", "a concert in July"),
        ("no time at all", "no time at all"),
    ],
)
def test_relative_expressions_are_told_with_their_dates(text: str, told: str) -> None:
    assert resolved(text, NOW, SEOUL) == told


def test_dates_stand_behind_decomposed_expressions_too() -> None:
    text = unicodedata.normalize("NFD", "지난주에 갔어")
    told = unicodedata.normalize("NFC", resolved(text, NOW, SEOUL))
    assert told == "지난주(2024년 4월 22일~28일)에 갔어"


@pytest.mark.parametrize(
    ("year", "easter", "thanksgiving", "seollal", "chuseok"),
    [
        (1990, (4, 15), (11, 22), (1, 27), (10, 3)),
        (2019, (4, 21), (11, 28), (2, 5), (9, 13)),
        (2025, (4, 20), (11, 27), (1, 29), (10, 6)),
        (2050, (4, 10), (11, 24), (1, 23), (9, 30)),
    ],
)
def test_moving_holidays(
    year: int, easter: object, thanksgiving: object, seollal: object, chuseok: object
) -> None:
    def day(cycle: spans.Cycle) -> tuple[int, int]:
        span = cycle.at(datetime(year, 1, 1))
        assert span is not None
        return span.since.month, span.since.day

    assert day(spans.easter()) == easter
    assert day(spans.nth(11, 3, 4)) == thanksgiving
    assert day(spans.lunar(spans.SEOLLAL)) == seollal
    assert day(spans.lunar(spans.CHUSEOK)) == chuseok


def test_lunar_holidays_end_with_their_table() -> None:
    assert named("2050년 추석") == ["2050년 추석"]
    assert named("추석에", datetime(2060, 5, 2, tzinfo=SEOUL)) == []


@given(st.text(), st.datetimes(timezones=st.just(UTC)))
def test_no_text_and_no_moment_raise(text: str, now: datetime) -> None:
    for period in periods(text, now, SEOUL):
        assert 0 <= period.start < period.end <= len(text)
    resolved(text, now, SEOUL)


WORDS = (
    "yesterday last next week two 3 days ago before after since until in on the March may 5/3 2024 "
    "first early end of Christmas from to between and - , Friday evening 지난 주 3월 말 전에 부터 "
    "까지 작년 여름 두 달 어제 저녁 사흘 설날 999999999 31일 월요일 0 00/00 2024-02-30 "
    "초 9999년 이맘때"
).split()


@given(
    st.lists(st.sampled_from([*WORDS, " ", " ", "\n", "İ", "\u0301"])).map("".join),
    st.datetimes(timezones=st.just(UTC)),
    st.sampled_from([None, SEOUL, NEW_YORK]),
)
def test_no_mixture_of_times_raises(text: str, now: datetime, zone: ZoneInfo | None) -> None:
    found = periods(text, now, zone)
    assert all(a.end <= b.start for a, b in pairwise(found))
    assert all(isinstance(period, Period) and period.since < period.until for period in found)
    resolved(text, now, zone)


@pytest.mark.parametrize("text", ["999 decades ago", "999 years ago", "999년 전", "in 999 years"])
def test_what_lies_beyond_the_calendar_is_passed_over(text: str) -> None:
    assert named(text) == []
    assert named(f"{text}, yesterday") == ["yesterday"]


def test_the_end_of_a_very_long_text_is_not_looked_at() -> None:
    assert named("yesterday " + "x " * MAX_LENGTH + "today") == ["yesterday"]


@pytest.mark.parametrize(
    "piece",
    ["last ", "may ", "3월부터 ", "1월~", "한 전 ", "the day before ", "2024-", "9", " ", "십 ",
     "가", "monday, ", "from may to ", "in a couple of ",
     unicodedata.normalize("NFD", "지난 주에 ")],
)  # fmt: skip
def test_a_megabyte_on_one_line_takes_no_minutes(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    begin = time.process_time()
    periods(text, NOW, SEOUL)
    assert time.process_time() - begin < 3  # half a second at most on an idle machine
